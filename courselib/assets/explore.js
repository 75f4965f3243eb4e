// The course's widget driver: turns packed frames into a figure with controls. One copy a page is enough, more do no harm.
(function () {
  if (window.courselib) { window.courselib.mountAll(); return; }

  const CSS = `
.courselib-widget.cl-on{font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;margin:.4em 0 1em;max-width:100%}
.courselib-widget .cl-title{font-weight:600;margin:0 0 .35em}
.courselib-widget .cl-controls{display:flex;flex-wrap:wrap;gap:.45em 1.4em;align-items:center;margin:0 0 .35em}
.courselib-widget .cl-control{display:flex;align-items:center;gap:.5em;min-height:2em;max-width:100%}
.courselib-widget .cl-control label{display:flex;align-items:center;gap:.5em;margin:0;max-width:100%}
.courselib-widget .cl-name{white-space:nowrap}
.courselib-widget output{min-width:3.2em;font-variant-numeric:tabular-nums;white-space:nowrap}
.courselib-widget input[type=range]{width:11em;max-width:42vw;accent-color:#0072b2;margin:0}
.courselib-widget input[type=checkbox]{width:1.1em;height:1.1em;accent-color:#0072b2;margin:0}
.courselib-widget select,.courselib-widget button{font:inherit;color:inherit;background:transparent;border:1px solid rgba(128,128,128,.55);border-radius:4px;padding:.15em .5em}
.courselib-widget select option{color:#111;background:#fff}
.courselib-widget button{cursor:pointer;min-width:2.1em}
.courselib-widget :is(input,select,button):focus-visible{outline:2px solid #0072b2;outline-offset:2px}
.courselib-widget .cl-group{flex-wrap:wrap;gap:.35em 1em}
.courselib-widget .cl-figure{width:100%;overflow:hidden}
.courselib-widget .cl-figure canvas{image-rendering:pixelated;max-width:100%;height:auto;display:block}
.courselib-widget .cl-figure img{max-width:100%;height:auto;display:block;background:#fff}
.courselib-widget .cl-readout{margin:.1em 0 .2em;min-height:1.4em;white-space:pre-line;font-variant-numeric:tabular-nums}
.courselib-widget .cl-note{opacity:.75;margin:.1em 0}
`;
  const make = (tag, cls, text) => {
    const el = document.createElement(tag);
    if (cls) el.className = cls;
    if (text != null) el.textContent = text;
    return el;
  };
  const bytesOf = s => Uint8Array.from(atob(s), c => c.charCodeAt(0));

  // ---- packed frames ------------------------------------------------------------------------------------------------
  async function inflate(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  // One pool of unique arrays: codes (differences, low and high bytes apart) -> typed arrays, one for each entry.
  function decodePool(spec, blob) {
    const n = spec.lens.reduce((a, b) => a + b, 0), out = [];
    let at = 0;
    for (const len of spec.lens) {
      const a = new Float64Array(len), top = spec.w === 1 ? 255 : 65535;
      let code = 0;
      for (let i = 0; i < len; i++) {
        const j = spec.at + at + i;
        const step = spec.w === 1 ? blob[j] : blob[j] | (blob[j + n] << 8);
        code = (code + step) & top;
        const v = spec.lo + code * spec.scale;
        a[i] = code === top ? NaN : spec.log ? Math.exp(v) : v;
      }
      out.push(a); at += len;
    }
    return out;
  }
  async function unpack(payload) {
    const raw = await inflate(bytesOf(payload));
    const size = new DataView(raw.buffer, raw.byteOffset).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(raw.subarray(4, 4 + size)));
    const blob = raw.subarray(4 + size), pools = {};
    const array = (node, f) => {
      const pool = pools[node.a] || (pools[node.a] = decodePool(head.pools[node.a], blob));
      const spec = head.pools[node.a], k = head.index[node.i][f], shape = spec.shapes[k];
      if (shape.length === 1) return Array.from(pool[k]);
      const rows = [];
      for (let r = 0; r < shape[0]; r++) rows.push(Array.from(pool[k].subarray(r * shape[1], (r + 1) * shape[1])));
      return rows;
    };
    const build = (node, f) => {
      if ('c' in node) return JSON.parse(JSON.stringify(node.c));
      if ('a' in node) return array(node, f);
      if ('v' in node) return JSON.parse(JSON.stringify(node.v[head.index[node.i][f]]));
      if ('l' in node) return node.l.map(n => build(n, f));
      const o = {};
      for (const k in node.d) {
        const kid = node.d[k];
        if (kid.gone && kid.gone.includes(f)) continue;
        o[k] = build(kid, f);
      }
      return o;
    };
    return f => build(head.tree, f);
  }

  // ---- plotly -------------------------------------------------------------------------------------------------------
  const sleep = ms => new Promise(r => setTimeout(r, ms));
  let plotlyAsked = null;
  // JupyterLab with no kernel: plotly's own extension has the library and puts it on the page when it first draws.
  async function plotlyOfLab() {
    const extension = window._JUPYTERLAB && window._JUPYTERLAB['jupyterlab-plotly'], mimeType = 'application/vnd.plotly.v1+json';
    if (!extension) return;
    const plugin = (await extension.get('./mimeExtension'))().default;
    const renderer = [].concat(plugin)[0].rendererFactory.createRenderer({ mimeType });
    await renderer.renderModel({ data: { [mimeType]: { data: [], layout: {} } }, metadata: {}, setData() {} });
  }
  // A docs page has plotly.js; JupyterLab may have it; else a live kernel is asked for its copy, once a page.
  async function plotly(widget) {
    for (let i = 0; i < 80 && !window.Plotly; i++) {
      await sleep(75);
      if (window.Plotly || i < 4) continue;
      if (!widget.live) { if (i === 4) await plotlyOfLab().catch(() => {}); continue; }
      plotlyAsked = plotlyAsked || widget.live.ask({ want: 'plotly' }).then(({ buffers }) => {
        const tag = document.createElement('script');
        tag.textContent = new TextDecoder().decode(buffers[0]);
        document.head.appendChild(tag);
      });
      await plotlyAsked;
    }
    return window.Plotly;
  }
  function themed(root, fig) {
    const color = getComputedStyle(root).color, layout = fig.layout || {};
    layout.font = Object.assign({}, layout.font, { color });
    layout.uirevision = 'courselib';
    layout.autosize = true;
    return layout;
  }

  // ---- one widget ---------------------------------------------------------------------------------------------------
  class Widget {
    constructor(root, spec) {
      this.root = root; this.spec = spec; this.controls = spec.controls;
      this.state = this.controls.map(c => c.start);
      this.live = null; this.serial = 0;
    }
    async start() {
      const { root, spec } = this;
      this.frame = await unpack(spec.payload);
      this.kind = this.frame(0).kind;
      if (this.kind === 'plotly' && !(await plotly(this))) { root.dataset.state = 'no-plotly'; return; }
      const box = make('div', 'cl-body');
      if (spec.title) box.append(make('div', 'cl-title', spec.title));
      if (this.controls.length) {
        const row = make('div', 'cl-controls');
        this.controls.forEach((c, i) => row.append(this.control(c, i)));
        box.append(row);
        // JupyterLab would take the arrow keys for itself; it looks for this mark on the focused element only.
        row.querySelectorAll('input,select,button').forEach(x => x.setAttribute('data-lm-suppress-shortcuts', 'true'));
      }
      this.figure = make('div', 'cl-figure');
      this.figure.setAttribute('role', 'img');
      this.figure.setAttribute('aria-label', spec.alt);
      this.readout = make('div', 'cl-readout');
      this.readout.setAttribute('aria-live', 'polite');
      box.append(this.figure, this.readout);
      if (!spec.readout) this.readout.style.display = 'none';
      if (spec.note) box.append(make('div', 'cl-note', spec.note));
      for (const old of root.querySelectorAll(':scope > .cl-still, :scope > .cl-body')) old.remove();
      root.classList.add('cl-on');
      root.append(box);
      await this.draw();
    }
    control(c, i) {
      const id = `cl-${Math.random().toString(36).slice(2, 9)}`;
      const wrap = make('div', 'cl-control');
      const set = v => this.set(i, v);
      if (c.kind === 'toggles') {
        wrap.setAttribute('role', 'group'); wrap.setAttribute('aria-label', c.label); wrap.classList.add('cl-group');
        wrap.append(make('span', 'cl-name', c.label));
        c.boxes = c.items.map((item, b) => {
          const label = make('label'), box = make('input');
          box.type = 'checkbox'; box.dataset.control = c.name; box.dataset.item = item;
          box.checked = !!(this.state[i] >> b & 1);
          box.addEventListener('change', () => set(c.boxes.reduce((m, x, k) => m | (x.checked << k), 0)));
          label.append(box, make('span', '', item)); wrap.append(label);
          return box;
        });
        c.sync = v => c.boxes.forEach((x, b) => { x.checked = !!(v >> b & 1); });
        return wrap;
      }
      const label = make('label'), name = make('span', 'cl-name', c.label);
      let input;
      if (c.kind === 'slider') {
        input = make('input'); input.type = 'range'; input.min = 0; input.max = c.labels.length - 1; input.step = 1;
        const out = make('output', '', c.labels[this.state[i]]);
        out.style.minWidth = `${Math.max(...c.labels.map(l => l.length)) * .62 + .4}em`;
        c.sync = v => { input.value = v; out.textContent = c.labels[v]; input.setAttribute('aria-valuetext', c.labels[v]); };
        input.addEventListener('input', () => { this.stop(c); set(+input.value); });
        label.append(name, input, out);
      } else if (c.kind === 'choice') {
        input = make('select');
        c.labels.forEach((l, k) => { const o = make('option', '', l); o.value = k; input.append(o); });
        c.sync = v => { input.value = v; };
        input.addEventListener('change', () => set(+input.value));
        label.append(name, input);
      } else {
        input = make('input'); input.type = 'checkbox';
        c.sync = v => { input.checked = !!v; };
        input.addEventListener('change', () => set(+input.checked));
        label.append(input, name);
      }
      input.id = id; label.htmlFor = id; input.dataset.control = c.name; c.input = input;
      c.sync(this.state[i]);
      if (c.play) {
        const b = make('button', 'cl-play', '▶');
        b.type = 'button'; b.dataset.control = c.name; b.setAttribute('aria-label', `play ${c.label}`);
        b.addEventListener('click', () => c.timer ? this.stop(c) : this.play(c, i));
        c.button = b; wrap.append(b);
      }
      wrap.append(label);
      return wrap;
    }
    play(c, i) {
      c.button.textContent = '❚❚'; c.button.setAttribute('aria-label', `pause ${c.label}`);
      const tick = async () => {
        if (!c.timer || !this.root.isConnected) return;
        this.set(i, (this.state[i] + 1) % c.labels.length);
        await this.drawing;
        if (c.timer) c.timer = setTimeout(tick, c.interval);
      };
      c.timer = setTimeout(tick, 0);
    }
    stop(c) {
      if (!c.timer) return;
      clearTimeout(c.timer); c.timer = null;
      c.button.textContent = '▶'; c.button.setAttribute('aria-label', `play ${c.label}`);
    }
    set(i, v) {
      if (v === this.state[i]) return;
      this.state[i] = v; this.controls[i].sync(v);
      this.draw();
    }
    // The product of the controls, last control fastest: the order in which the frames were computed.
    index() { return this.controls.reduce((f, c, i) => f * c.count + Math.round(this.state[i] / (c.fine || 1)), 0); }
    // Only the newest state is drawn: while one drawing is awaited, later ones replace each other.
    draw() {
      this.wanted = this.state.slice();
      if (!this.drawing) this.drawing = this.loop().finally(() => { this.drawing = null; });
      return this.drawing;
    }
    async loop() {
      while (this.wanted) {
        const state = this.wanted; this.wanted = null;
        const started = performance.now();
        this.root.dataset.state = 'drawing';
        const frame = this.live ? await this.live.frame(state) : this.frame(this.index());
        if (frame) await this.paint(frame);
        this.root.dataset.frame = this.index();
        this.root.dataset.ms = Math.round(performance.now() - started);
        this.root.dataset.mode = this.live ? 'live' : 'frozen';
        if (!this.wanted) this.root.dataset.state = 'ready';
      }
    }
    async paint(frame) {
      const fig = this.figure;
      if (frame.kind === 'plotly') {
        const layout = themed(this.root, frame.figure);
        fig.style.height = `${layout.height || 340}px`;
        await window.Plotly.react(fig, frame.figure.data, layout, { displayModeBar: false, responsive: true });
        if (!this.clicks) { this.clicks = true; if (this.spec.click) fig.on('plotly_click', e => this.click(e)); }
      } else if (frame.kind === 'image') {
        const h = frame.shape[0], w = frame.shape[1], c = frame.shape[2];
        let canvas = fig.querySelector('canvas');
        if (!canvas) { canvas = make('canvas'); fig.append(canvas); }
        canvas.width = w; canvas.height = h;
        canvas.style.width = `${w * Math.max(1, Math.floor(Math.min(480, fig.clientWidth || 480) / Math.max(w, h)))}px`;
        const img = new ImageData(w, h);
        for (let p = 0; p < w * h; p++) {
          for (let k = 0; k < 3; k++) img.data[4 * p + k] = frame.pixels[p * c + (c === 3 ? k : 0)];
          img.data[4 * p + 3] = 255;
        }
        canvas.getContext('2d').putImageData(img, 0, 0);
      } else {
        let img = fig.querySelector('img');
        if (!img) { img = make('img'); img.alt = this.spec.alt; fig.append(img); }
        img.src = frame.src;
        if (img.decode) await img.decode().catch(() => {});
      }
      this.readout.textContent = frame.text || '';
    }
    click(event) {
      const p = event.points[0], target = this.spec.click;
      if (typeof target === 'string') {
        const i = this.controls.findIndex(c => c.name === target), c = this.controls[i];
        const k = Number.isInteger(p.customdata) ? p.customdata : Array.isArray(p.pointIndex) ? p.pointIndex[1] : p.pointIndex;
        if (c.kind === 'toggles') { if (k < c.items.length) { this.set(i, this.state[i] ^ (1 << k)); } }
        else if (k < c.labels.length) this.set(i, k * (c.fine || 1));
        return;
      }
      for (const axis in target) {
        const i = this.controls.findIndex(c => c.name === target[axis]), c = this.controls[i], at = p[axis];
        let best = -1;
        if (typeof at === 'number' && c.values.every(v => typeof v === 'number'))
          best = c.values.reduce((b, v, k) => Math.abs(v - at) < Math.abs(c.values[b] - at) ? k : b, 0);
        else best = c.values.findIndex((v, k) => String(v) === String(at) || c.labels[k] === String(at));
        if (best >= 0) this.set(i, best);
      }
    }
    // Hand the widget over to a kernel: the controls stay, frames are computed by the function itself.
    goLive(live) {
      this.live = live;
      live.controls.forEach((l, i) => {
        const c = this.controls[i], fine = l.labels.length > c.labels.length ? l.fine : 1;
        if (c.kind !== 'slider' || fine === 1) return;
        c.fine = fine; c.labels = l.labels; c.values = l.values; this.state[i] *= fine;
        if (c.input) { c.input.max = l.labels.length - 1; c.sync(this.state[i]); }
      });
      if (this.figure) this.draw();
    }
  }

  // ---- mounting -----------------------------------------------------------------------------------------------------
  const widgets = new WeakMap();
  function mount(root) {
    if (widgets.has(root)) return widgets.get(root);
    const data = root.querySelector(':scope > script.cl-data');
    if (!data) return null;
    if (!document.getElementById('cl-css')) { const s = make('style'); s.id = 'cl-css'; s.textContent = CSS; document.head.append(s); }
    const widget = new Widget(root, JSON.parse(data.textContent));
    widgets.set(root, widget);
    root.dataset.mounted = '1';
    [500, 2000, 6000].forEach(ms => setTimeout(() => hideOrphans(root), ms));
    widget.ready = widget.start().catch(e => { root.dataset.state = 'failed'; console.error('courselib:', e); });
    return widget;
  }
  // A notebook saved after a live run, opened without its kernel: the kernel's half is gone, this half still works.
  function hideOrphans(root) {
    const area = root.closest('.jp-OutputArea');
    if (area) area.querySelectorAll('.jp-OutputArea-child').forEach(child => {
      if (!child.contains(root) && child.textContent.trim().startsWith('Error displaying widget')) child.style.display = 'none';
    });
  }
  function mountAll(where) { (where || document).querySelectorAll('div.courselib-widget').forEach(mount); }
  // Plots are redrawn when the page turns dark or light.
  const repaint = () => setTimeout(() => document.querySelectorAll('div.courselib-widget.cl-on').forEach(r => { const w = widgets.get(r); if (w && w.figure) w.draw(); }), 60);
  new MutationObserver(repaint).observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme', 'class'] });
  const watchBody = () => new MutationObserver(repaint).observe(document.body, { attributes: true, attributeFilter: ['data-jp-theme-light', 'data-jp-theme-name'] });
  if (document.body) watchBody(); else document.addEventListener('DOMContentLoaded', watchBody);
  window.courselib = { mount, mountAll, unpack, version: 1 };
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', () => mountAll());
  else mountAll();
})();
