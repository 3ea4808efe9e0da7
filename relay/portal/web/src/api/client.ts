// Requests to the door. The token of a session travels in one header and nowhere else.

import { signal } from '@preact/signals';
import type { Problem } from './views.ts';

const TOKEN = 'qb.token';

/** The session's token; null without one. */
export const token = signal<string | null>(sessionStorage.getItem(TOKEN));
/** Why the door asks for a login, in its own words. */
export const loginWanted = signal<string | null>(null);

export function setToken(value: string | null): void {
  token.value = value;
  if (value === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, value);
}

/** An error of the API, in its own words. */
export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

const unreachable = (why: string): Problem => ({
  type: 'unreachable',
  status: 0,
  title: 'No answer',
  detail: `This door does not answer: ${why}.`,
  remedy: 'qb site status',
});

export function headers(extra: Record<string, string> = {}): Record<string, string> {
  return token.value === null ? extra : { ...extra, Authorization: `Bearer ${token.value}` };
}

/** Turns an answer that is no success into the problem it tells. */
export async function problemOf(response: Response): Promise<Problem> {
  try {
    const problem = (await response.json()) as Problem;
    if (typeof problem.detail === 'string') return problem;
  } catch {
    // Not the API's own answer: a proxy's page for instance.
  }
  return unreachable(`status ${response.status}`);
}

export async function ask<T>(method: string, path: string, body?: BodyInit, timeout = 15_000): Promise<T> {
  const response = await exchange(method, path, body, timeout);
  return response.status === 204 ? (undefined as T) : ((await response.json()) as T);
}

/** The answer's bytes as they came: what was signed is passed on unchanged. */
export async function askBytes(method: string, path: string, body: BodyInit, timeout: number): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await exchange(method, path, body, timeout)).arrayBuffer());
}

async function exchange(method: string, path: string, body: BodyInit | undefined, timeout: number): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers: headers(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      signal: AbortSignal.timeout(timeout),
      cache: 'no-store',
      ...(body === undefined ? {} : { body }),
    });
  } catch (e) {
    throw new ApiError(unreachable(e instanceof DOMException && e.name === 'TimeoutError' ? `no answer in ${timeout / 1000} s` : 'no connection'));
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    if (problem.status === 401) {
      setToken(null);
      loginWanted.value = problem.detail;
    }
    throw new ApiError(problem);
  }
  return response;
}

export const get = <T>(path: string): Promise<T> => ask<T>('GET', path);
export const post = <T>(path: string, body: unknown, timeout?: number): Promise<T> =>
  ask<T>('POST', path, JSON.stringify(body), timeout);

export const asProblem = (e: unknown): Problem =>
  e instanceof ApiError
    ? e.problem
    : { type: 'page', status: 0, title: 'This page failed', detail: e instanceof Error ? e.message : String(e), remedy: null };
