// What changes while one looks. A page is whole without it. Texts go in as text and never as markup.
"use strict";
(() => {
  const MOST = 200; // rows that stay
  const main = document.getElementById("main");
  const state = document.getElementById("state");
  const rows = document.getElementById("rows");
  const pause = document.getElementById("pause");
  const none = document.getElementById("none");
  let source, again, paused = false, held = [], loaded = Date.now();

  // Polite, and only when something is otherwise: a screen reader is not told of every figure.
  const say = (text) => { if (state.textContent !== text) state.textContent = text; };

  const ATTRIBUTES = new Set(["x", "width", "points", "data-hot"]);

  function show(figures) {
    for (const [key, text] of Object.entries(figures.t || {})) {
      for (const e of document.querySelectorAll(`[data-t="${CSS.escape(key)}"]`)) e.textContent = text;
    }
    for (const [key, attributes] of Object.entries(figures.a || {})) {
      for (const e of document.querySelectorAll(`[data-a="${CSS.escape(key)}"]`)) {
        for (const [name, value] of Object.entries(attributes)) if (ATTRIBUTES.has(name)) e.setAttribute(name, value);
      }
    }
    if (figures.s && main.dataset.shape !== figures.s) changed();
    if (figures.r && rows) {
      if (paused) held = held.concat(figures.r).slice(-MOST);
      else add(figures.r);
    }
  }

  // What stands there is not what there is any more: managers came or went. Who is in the middle of something is only told.
  function changed() {
    const busy = main.contains(document.activeElement) && document.activeElement !== main || String(getSelection());
    if (busy || Date.now() - loaded < 5000) {
      say("The ring has changed: load this page again.");
      if (!busy) setTimeout(() => location.reload(), 5000);
      return;
    }
    location.reload();
  }

  function add(calls) {
    const all = document.createDocumentFragment();
    for (const c of calls.slice(-MOST).reverse()) all.append(row(c));
    rows.prepend(all);
    while (rows.rows.length > MOST) rows.lastElementChild.remove();
    if (none) none.hidden = true;
  }

  function row(c) {
    const tr = document.createElement("tr");
    tr.className = "new";
    const cell = (name, ...what) => {
      const td = document.createElement("td");
      if (name) td.className = name;
      td.append(...what.filter((x) => x));
      tr.append(td);
    };
    const time = element("time", "", c.time.slice(0, 8));
    time.dateTime = c.iso;
    time.append(element("span", "wide", c.time.slice(8)));
    cell("time", c.story ? link(c.story, time, "Trace of this call, ended at " + c.time) : time);
    if (!rows.dataset.one) {
      cell("", c.fn && link(c.href, element("bdi", "", c.fn)), c.ver && document.createElement("wbr"), c.ver && element("span", "dim", ":" + c.ver), c.ten && " ", c.ten && element("bdi", "tenant", c.ten));
    }
    const bad = !["ok", "ended"].includes(c.out);
    cell("", element("span", "state " + (bad ? "bad" : c.out === "ok" ? "good" : "wait"), c.out), c.code && " ", c.code && element("bdi", "dim", c.code));
    cell("start", c.start);
    cell("wide why", c.why);
    cell("wide", c.arc && element("bdi", "", c.arc), c.mgr && " ", c.mgr && element("bdi", "dim", c.mgr));
    cell("n", c.took);
    cell("wide", c.id && link(c.story, element("bdi", "id", c.id.slice(0, 8)), "Trace of request " + c.id));
    return tr;
  }

  function element(name, kind, text) {
    const e = document.createElement(name);
    if (kind) e.className = kind;
    e.textContent = text;
    return e;
  }

  // Only to pages of the console, whatever a row says.
  function link(href, inside, label) {
    const a = document.createElement("a");
    if (href.startsWith("/console/")) a.href = href;
    if (label) a.setAttribute("aria-label", label);
    a.append(inside);
    return a;
  }

  function open() {
    close();
    if (!main.dataset.live || document.hidden) return;
    source = new EventSource(main.dataset.live);
    source.onopen = () => say("Live");
    source.onmessage = (e) => show(JSON.parse(e.data));
    source.addEventListener("end", () => say("The frontend ends."));
    source.onerror = () => {
      say("Not live: the connection is gone, or too many windows are open.");
      if (source.readyState === EventSource.CLOSED) again = setTimeout(open, 10000);
    };
  }

  function close() {
    clearTimeout(again);
    if (source) source.close();
    source = undefined;
  }

  // A window that nobody sees holds no place among those that are live.
  document.addEventListener("visibilitychange", () => document.hidden ? close() : open());
  addEventListener("pagehide", close);
  addEventListener("pageshow", (e) => { if (e.persisted) open(); });

  if (pause) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      say(paused ? "Paused: figures go on, rows wait." : "Live");
      if (!paused) { add(held); held = []; }
    });
  }

  document.addEventListener("click", async (e) => {
    const button = e.target.closest("button[data-copy]");
    if (!button) return;
    const code = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
      say("Copied.");
    } catch {
      getSelection().selectAllChildren(code);
      say("Selected: copy it with the keyboard.");
    }
  });

  document.addEventListener("submit", (e) => {
    const form = e.target;
    if (!form.dataset.go) return;
    e.preventDefault();
    const asked = [...new FormData(form)].filter(([, v]) => v.trim()).map(([k, v]) => [k, v.trim()]);
    const path = form.dataset.path && asked.length ? "/" + encodeURIComponent(asked.shift()[1]) : "";
    const query = String(new URLSearchParams(asked));
    location.assign(form.dataset.go + path + (query && "?" + query));
  });

  // The newest line of a log is the one that is looked for.
  open();
})();
