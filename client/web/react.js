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
 *   pay: (request: {phoneNumber: string, amount?: number|string, accountReference?: string, again?: boolean}) =>
 *     Promise<import("./client.js").Data|undefined>
 * }}
 */
export function useHodiPayment(sessionId, { base = defaultBase(), onMessage } = {}) {
  const [data, setData] = useState(undefined);
  const [link, setLink] = useState({ state: "connecting", lastHeard: 0 });
  const [sending, setSending] = useState(false);
  const [error, setError] = useState(undefined);

  // The newest listener, without a new connection for each render.
  const listener = useRef(onMessage);
  useEffect(() => {
    listener.current = onMessage;
  });

  const present = useRef(new Present());
  useEffect(() => {
    present.current = new Present();
    setData(undefined);
    setError(undefined);
    setLink({ state: "connecting", lastHeard: 0 });
    if (!sessionId) return undefined;
    const updates = subscribe({
      base,
      session: sessionId,
      onMessage: (message) => {
        if (present.current.take(message.data, message)) setData(present.current.data);
        listener.current?.(message);
      },
      onState: (state, { lastHeard }) => setLink({ state, lastHeard }),
    });
    return () => updates.close();
  }, [base, sessionId]);

  // A press that had no answer and is repeated as it was is the same request.
  const last = useRef({ request: "", key: "" });
  const pay = useCallback(
    async (request) => {
      const mine = present.current;
      const text = JSON.stringify([sessionId, request]);
      if (last.current.request !== text) last.current = { request: text, key: newKey() };
      setSending(true);
      setError(undefined);
      try {
        const answer = await initiate(base, sessionId, { ...request, idempotencyKey: last.current.key });
        last.current = { request: "", key: "" };
        if (mine === present.current && mine.take(answer)) setData(mine.data);
        return answer;
      } catch (failure) {
        if (failure.status !== 0) last.current = { request: "", key: "" };
        setError(failure);
        return undefined;
      } finally {
        setSending(false);
      }
    },
    [base, sessionId],
  );

  return { status: data?.status, data, ...link, sending, error, pay };
}
