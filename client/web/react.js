// Hodi in React: one payment, as it stands.
//
//   const { status, data, state, pay } = useHodiPayment(order.session, { base: "http://127.0.0.1:8787" });

import { useCallback, useEffect, useRef, useState } from "react";
import { Present, defaultBase, initiate, newKey, subscribe } from "./client.js";

/**
 * useHodiPayment follows the session's payment for as long as the component is on the page.
 *
 * @param {string|undefined} sessionId undefined: not yet
 * @param {{base?: string, onMessage?: (message: import("./client.js").Message) => void}} [options]
 * @returns {{
 *   status: import("./client.js").Data["status"]|undefined, undefined: nothing was asked for yet
 *   data: import("./client.js").Data|undefined,
 *   state: import("./client.js").State, how fresh that is
 *   lastHeard: number,
 *   sending: boolean,
 *   error: import("./client.js").HodiError|undefined,
 *   pay: (request: {phoneNumber: string, amount?: number|string, accountReference?: string, shortcode?: string, again?: boolean}) =>
 *     Promise<import("./client.js").Data|undefined>
 * }}
 */
export function useHodiPayment(sessionId, { base = defaultBase(), onMessage } = {}) {
  // What is known belongs to one session: of another there is nothing to show yet, not even for one frame.
  const key = `${base} ${sessionId}`;
  const [kept, setKept] = useState(nothing(key));
  const shown = kept.key === key ? kept : nothing(key);

  // The newest listener, without a new connection for each render.
  const listener = useRef(onMessage);
  useEffect(() => {
    listener.current = onMessage;
  });

  const present = useRef(new Present());
  useEffect(() => {
    const mine = (present.current = new Present());
    const put = (facts) => mine === present.current && setKept((k) => ({ ...k, ...facts }));
    setKept(nothing(key));
    if (!sessionId) return undefined;
    const updates = subscribe({
      base,
      session: sessionId,
      onMessage: (message) => {
        if (mine.take(message.data, message)) put({ data: mine.data });
        listener.current?.(message);
      },
      onState: (state, { lastHeard }) => put({ state, lastHeard }),
    });
    return () => {
      present.current = new Present();
      updates.close();
    };
  }, [base, sessionId, key]);

  // A press that had no answer and is repeated as it was is the same request.
  const last = useRef({ request: "", key: "" });
  const pay = useCallback(
    async (request) => {
      const mine = present.current;
      const put = (facts) => mine === present.current && setKept((k) => ({ ...k, ...facts }));
      const text = JSON.stringify([key, request]);
      if (last.current.request !== text) last.current = { request: text, key: newKey() };
      put({ sending: true, error: undefined });
      try {
        const answer = await initiate(base, sessionId, { ...request, idempotencyKey: last.current.key });
        last.current = { request: "", key: "" };
        if (mine.take(answer)) put({ data: mine.data });
        return answer;
      } catch (failure) {
        if (failure.status !== 0) last.current = { request: "", key: "" };
        put({ error: failure });
        return undefined;
      } finally {
        put({ sending: false });
      }
    },
    [base, sessionId, key],
  );

  const { data, state, lastHeard, sending, error } = shown;
  return { status: data?.status, data, state, lastHeard, sending, error, pay };
}

const nothing = (key) => ({ key, data: undefined, state: "connecting", lastHeard: 0, sending: false, error: undefined });
