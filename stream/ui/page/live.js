// The stream of states from headrace: connect, notice silence, connect again.

const SILENT_MS = 7_000;
const RETRY_MS = 2_000;
const HIDDEN_MS = 60_000;

/**
 * `onState(state)` for each state; `onLink({isUp, since})` when the connection is lost or is back.
 * A page that nobody sees lets go of its stream after a minute, so that headrace may rest.
 */
export function follow({ onState, onLink }) {
  let source = null;
  let heardAt = performance.now();
  let lostSince = null;
  let retry = null;
  let hide = null;

  function open() {
    close();
    heardAt = performance.now();
    source = new EventSource("/events");
    source.addEventListener("open", heard);
    source.addEventListener("beat", heard);
    source.addEventListener("state", (event) => {
      heard();
      onState(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      lose();
      // After an answer that is no stream (busy, restarting) the browser gives up; we do not.
      if (source?.readyState === EventSource.CLOSED) again();
    });
  }

  function close() {
    clearTimeout(retry);
    source?.close();
    source = null;
  }

  function again() {
    close();
    retry = setTimeout(open, RETRY_MS);
  }

  function heard() {
    heardAt = performance.now();
    if (lostSince === null) return;
    lostSince = null;
    onLink({ isUp: true, since: null });
  }

  function lose() {
    if (lostSince !== null) return;
    lostSince = Date.now();
    onLink({ isUp: false, since: lostSince });
  }

  setInterval(() => {
    if (source && performance.now() - heardAt > SILENT_MS) {
      lose();
      again();
    }
  }, 1_000);
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hide);
    if (document.hidden) hide = setTimeout(close, HIDDEN_MS);
    else if (!source) open();
  });
  open();
}
