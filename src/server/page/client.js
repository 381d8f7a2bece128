/* client.js - the calls to the server: list of models, and one streamed answer.
 *
 * Addresses are relative to the document, so that the page also works below a path of a proxy. The
 * key, where the server wants one, is asked for by whoever catches a ServerError with status 401. */
import { EventParser } from './sse.js';

/* What the server said, in its words. */
export class ServerError extends Error {
  constructor(message, about = {}) {
    super(message);
    this.status = about.status || 0; // of HTTP; 0: the connection failed
    this.code = about.code || '';
    this.param = about.param || '';
    this.retryMs = about.retryMs || 0; // when to try again; 0: not said
    this.request = about.request || ''; // x-request-id
  }
}

const cut = (text, most) => (text.length > most ? text.slice(0, most) + '…' : text);

function errorOf(value, about) {
  const e = value && value.error;
  if (e && typeof e === 'object' && typeof e.message === 'string') {
    return new ServerError(cut(e.message, 4000), {
      ...about,
      code: typeof e.code === 'string' ? e.code : String(e.type || ''),
      param: typeof e.param === 'string' ? e.param : '',
    });
  }
  return typeof e === 'string' ? new ServerError(cut(e, 4000), about) : null;
}

function retryAfter(headers) {
  const ms = Number(headers.get('retry-after-ms')) || Number(headers.get('retry-after')) * 1000;
  return Number.isFinite(ms) && ms > 0 ? ms : 0;
}

async function refused(response) {
  const about = {
    status: response.status,
    retryMs: retryAfter(response.headers),
    request: response.headers.get('x-request-id') || '',
  };
  const text = await response.text().catch(() => '');
  try {
    const error = errorOf(JSON.parse(text), about);
    if (error) {
      return error;
    }
  } catch {
    // not JSON: a proxy's words, below
  }
  const words = text && !text.trimStart().startsWith('<') ? cut(text.trim(), 1000) : '';
  return new ServerError(
    words || `HTTP ${response.status} ${response.statusText || 'without a message'}`, about);
}

async function call(path, options, key) {
  const headers = { accept: 'application/json', ...options.headers };
  if (key) {
    headers.authorization = `Bearer ${key}`;
  }
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      ...options, headers, cache: 'no-store', credentials: 'same-origin', redirect: 'error',
    });
  } catch (e) {
    if (e.name === 'AbortError') {
      throw e;
    }
    throw new ServerError('The server cannot be reached. Is slm serve still running?');
  }
  if (!response.ok) {
    throw await refused(response);
  }
  return response;
}

export async function listModels(key, signal) {
  const response = await call('v1/models', { signal }, key);
  const value = await response.json();
  return Array.isArray(value.data) ? value.data : [];
}

/* Models in memory with what they take there; a server that does not tell has none. */
export async function listRunning(key) {
  try {
    const value = await (await call('api/ps', {}, key)).json();
    return Array.isArray(value.models) ? value.models : [];
  } catch {
    return [];
  }
}

/* One answer. on.head(headers), on.chunk(object) for each piece, on.ping(). Ends when the server says
 * that the answer is complete; throws ServerError, or AbortError after signal. */
export async function streamChat(body, key, signal, on) {
  const response = await call('v1/chat/completions', {
    method: 'POST',
    signal,
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify(body),
  }, key);
  const about = { request: response.headers.get('x-request-id') || '' };
  on.head(response.headers);
  if (!(response.headers.get('content-type') || '').startsWith('text/event-stream')) {
    const value = await response.json();
    const error = errorOf(value, about);
    if (error) {
      throw error;
    }
    on.chunk(value);
    return;
  }
  let done = false;
  let finished = false;
  const parser = new EventParser((event) => {
    if (done) {
      return;
    }
    if (event.data === '[DONE]') {
      done = true;
      return;
    }
    const value = JSON.parse(event.data);
    const error = errorOf(value, about);
    if (error) {
      throw error;
    }
    finished ||= (value.choices || []).some((choice) => choice.finish_reason);
    on.chunk(value);
  }, on.ping);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  try {
    while (!done) {
      const piece = await reader.read();
      if (piece.done) {
        break;
      }
      parser.push(decoder.decode(piece.value, { stream: true }));
    }
  } catch (e) {
    if (e instanceof ServerError || e.name === 'AbortError') {
      throw e;
    }
    throw new ServerError(e instanceof SyntaxError
      ? 'A piece of the answer is not JSON: something between the page and the server changed it.'
      : 'The connection to the server was lost before the answer was complete.', about);
  } finally {
    reader.cancel().catch(() => {});
  }
  if (!done && !finished) {
    throw new ServerError('The server ended the answer before it was complete.', about);
  }
}
