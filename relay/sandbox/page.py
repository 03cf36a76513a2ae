"""The page of the sandbox: what came in, live. One file, nothing from outside."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>relay sandbox</title>
<style>
:root { color-scheme: light dark; --line: #8884; --dim: #888; --good: #2a9d5c; --bad: #d1495b; --bar: #4a7fd4; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0 0 1rem; } h1 small { color: var(--dim); font-weight: normal; }
#cards { display: flex; flex-wrap: wrap; gap: 1rem; margin-bottom: 1.5rem; }
.card { border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; min-width: 19rem; flex: 1; }
.card h2 { margin: 0; font-size: 1rem; } .card b { font-size: 1.7rem; font-variant-numeric: tabular-nums; }
.card p { margin: .2rem 0; color: var(--dim); } svg { width: 100%; height: 3rem; display: block; }
rect { fill: var(--bar); }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.body { font-family: ui-monospace, monospace; word-break: break-all; }
.ok { color: var(--good); } .no { color: var(--bad); } .dim { color: var(--dim); }
</style>
<h1>relay sandbox <small>stand-ins for Pusher and webhook receivers</small></h1>
<div id="cards"><p class="dim">Nothing came in yet.</p></div>
<table><thead><tr><th>time<th>provider<th>to<th>event<th>id<th>answer<th>body</thead><tbody id="rows"></tbody></table>
<script>
const cell = (row, text, name) => {
  const td = row.insertCell(); td.textContent = text; if (name) td.className = name;
};
const card = (name, s) => {
  const div = document.createElement("div"); div.className = "card";
  const add = (tag, text) => { const e = document.createElement(tag); e.textContent = text; div.append(e); };
  add("h2", name); add("b", s.rate_per_second + "/s");
  add("p", `${s.accepted} accepted, ${s.refused} refused, ${s.duplicates} duplicates, ${s.requests} requests`);
  const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), top = Math.max(1, ...s.history);
  svg.setAttribute("viewBox", "0 0 60 20"); svg.setAttribute("preserveAspectRatio", "none");
  s.history.forEach((n, i) => {
    const r = document.createElementNS(ns, "rect"), h = 20 * n / top;
    for (const [k, v] of Object.entries({x: i, y: 20 - h, width: .8, height: h})) r.setAttribute(k, v);
    svg.append(r);
  });
  div.append(svg); return div;
};
async function refresh() {
  try {
    const [stats, got] = await Promise.all(
      ["stats", "received?limit=50"].map(path => fetch("/_sandbox/" + path).then(r => r.json())));
    const names = Object.keys(stats).sort();
    if (names.length) document.getElementById("cards").replaceChildren(...names.map(n => card(n, stats[n])));
    const rows = document.getElementById("rows"); rows.replaceChildren();
    for (const e of got) {
      const row = rows.insertRow();
      cell(row, new Date(e.at * 1000).toLocaleTimeString(), "dim"); cell(row, e.provider); cell(row, e.target);
      cell(row, e.event); cell(row, e.message_id, "dim"); cell(row, e.status, e.status < 300 ? "ok" : "no");
      cell(row, e.body, "body");
    }
  } finally { setTimeout(refresh, 1000); }
}
refresh();
</script>
</html>
"""
