// Server-sent events as lines.

/** Splits a stream of bytes into server-sent events; hands on their data. */
export class EventLines {
  private rest = '';
  private readonly decoder = new TextDecoder();
  private data: string[] = [];

  constructor(private readonly on: (data: string) => void) {}

  push(bytes: Uint8Array): void {
    this.rest += this.decoder.decode(bytes, { stream: true });
    const lines = this.rest.split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (this.data.length > 0) this.on(this.data.join('\n'));
        this.data = [];
      } else if (line.startsWith('data:')) this.data.push(line.slice(line[5] === ' ' ? 6 : 5));
    }
  }
}
