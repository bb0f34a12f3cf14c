import type { Acknowledged, Refusal } from './types';

/** Why a request did not do what was asked: the server's own words, or that it did not answer. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string | null = null,
    readonly remedy: string | null = null,
    readonly requestId: string | null = null,
    readonly acknowledged: Acknowledged | null = null,
  ) {
    super(title);
  }

  /** The request may or may not have arrived. */
  get unanswered(): boolean {
    return this.status === 0;
  }
}

interface Options {
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE';
  body?: unknown;
  ifMatch?: string;
  timeoutMs?: number;
}

let signedOut: () => void = () => {};

/** Called whenever the server no longer knows who we are. */
export function whenSignedOut(act: () => void): void {
  signedOut = act;
}

/** `path` stands under `/api/v1`. Fails with a `Problem`, never with anything else. */
export async function api<T>(path: string, options: Options = {}): Promise<T> {
  const headers = new Headers({ accept: 'application/json' });
  if (options.body !== undefined) headers.set('content-type', 'application/json');
  if (options.ifMatch !== undefined) headers.set('if-match', options.ifMatch);
  let response: Response;
  let text: string;
  try {
    response = await fetch(`/api/v1${path}`, {
      method: options.method ?? 'GET',
      headers,
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      cache: 'no-store',
      signal: AbortSignal.timeout(options.timeoutMs ?? 10_000),
    });
    text = await response.text();
  } catch {
    throw new Problem(0, 'No answer');
  }
  if (response.ok) return (text === '' ? undefined : JSON.parse(text)) as T;
  if (response.status === 401 && !path.startsWith('/session')) signedOut();
  throw problem(response, text);
}

function problem(response: Response, text: string): Problem {
  let said: Partial<Refusal> = {};
  try {
    said = JSON.parse(text) as Partial<Refusal>;
  } catch {
    // Something between us and Vigil answered; its page is of no use to a nurse.
  }
  const word = (key: 'title' | 'detail' | 'remedy' | 'request_id') => (typeof said[key] === 'string' ? said[key] : null);
  return new Problem(
    response.status,
    word('title') ?? `${response.status} ${response.statusText}`,
    word('detail'),
    word('remedy'),
    word('request_id') ?? response.headers.get('x-request-id'),
    said.acknowledged ?? null,
  );
}
