// Keeps the blocks of a page live: one stream of events, whose HTML is merged into the page.

const url = document.body.dataset.live;
let stream = null;

function morphAttributes(from, to) {
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
}

// Elements with an id are moved instead of made again, so that focus and selection stay.
function morphChildren(from, to) {
  const known = new Map();
  for (const child of from.children) if (child.id) known.set(child.id, child);
  let place = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const same = wanted.id ? known.get(wanted.id) : null;
    if (same) {
      if (same !== place) from.insertBefore(same, place);
      else place = place.nextSibling;
      morph(same, wanted);
    } else if (place && !place.id && !wanted.id && place.nodeName === wanted.nodeName) {
      const next = place.nextSibling;
      morph(place, wanted);
      place = next;
    } else {
      from.insertBefore(wanted, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (from.isEqualNode(to)) return;
  morphAttributes(from, to);
  morphChildren(from, to);
}

function show(blocks) {
  const focused = document.activeElement;
  for (const [name, html] of Object.entries(blocks)) {
    const place = document.querySelector(`[data-block="${name}"]`);
    if (!place) continue;
    const wanted = document.createElement("template");
    wanted.innerHTML = html;
    morphChildren(place, wanted.content);
  }
  // A row that moves loses the focus.
  if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  document.dispatchEvent(new CustomEvent("relay:shown"));
}

async function checkSession() {
  const answer = await fetch(location.href, { redirect: "manual" }).catch(() => null);
  if (answer && (answer.type === "opaqueredirect" || answer.status === 401)) location.reload();
}

function open() {
  if (!url || stream || document.hidden) return;
  stream = new EventSource(url);
  stream.onmessage = (event) => {
    document.body.classList.remove("stale");
    show(JSON.parse(event.data));
  };
  stream.onerror = () => {
    document.body.classList.add("stale");
    if (stream && stream.readyState === EventSource.CLOSED) {
      close();
      checkSession();
      setTimeout(open, 3000);
    }
  };
}

function close() {
  if (stream) stream.close();
  stream = null;
}

// After an action, a new stream begins with all blocks as they are now.
document.addEventListener("relay:done", () => {
  close();
  open();
});
// A page that nobody sees costs nothing.
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => event.persisted && open());
// An event brings all blocks, which costs as much as the page did, so the first one waits for the first paint.
new PerformanceObserver(open).observe({ type: "paint", buffered: true });
