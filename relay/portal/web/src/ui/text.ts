// Signed bytes set out in lines.

/** Breaks compact JSON into lines. Texts stay as they are. */
export function lines(json: string): string {
  let out = '';
  let depth = 0;
  let inText = false;
  for (let i = 0; i < json.length; i++) {
    const c = json[i] as string;
    if (inText) {
      out += c;
      if (c === '\\') out += json[++i] ?? '';
      else if (c === '"') inText = false;
      continue;
    }
    const pad = (n: number): string => `\n${'  '.repeat(n)}`;
    if (c === '"') (inText = true), (out += c);
    else if (c === '{' || c === '[') {
      const close = c === '{' ? '}' : ']';
      if (json[i + 1] === close) (out += c + close), i++;
      else out += c + pad(++depth);
    } else if (c === '}' || c === ']') out += pad(--depth) + c;
    else if (c === ',') out += c + pad(depth);
    else if (c === ':') out += ': ';
    else out += c;
  }
  return out;
}
