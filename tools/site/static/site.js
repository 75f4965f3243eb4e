// What the pages of the course do beyond the theme: mathematics, search on demand, filters, the map, copying a command.
(function () {
  'use strict';
  const all = (sel, el = document) => Array.from(el.querySelectorAll(sel));
  const root = document.documentElement.dataset.content_root || '';

  // ---- mathematics ----
  const macros = { '\\argmin': '\\operatorname*{arg\\,min}', '\\argmax': '\\operatorname*{arg\\,max}', '\\KL': '\\operatorname{KL}', '\\E': '\\mathbb{E}' };
  const setMath = () => {
    if (!window.katex) return;
    all('.math:not(.cl-set)').forEach(el => {
      window.katex.render(el.textContent, el, { displayMode: el.tagName === 'DIV', throwOnError: false, strict: 'ignore', macros: Object.assign({}, macros) });
      el.classList.add('cl-set');
    });
  };

  // ---- search: the index comes when the reader begins to search ----
  const script = src => new Promise((done, failed) => {
    const s = document.createElement('script');
    s.src = root + src; s.onload = done; s.onerror = failed;
    document.head.append(s);
  });
  const present = name => all('script[src]').some(s => s.src.includes(name));
  let index = null;
  const loadIndex = () => index || (index = (async () => {
    if (!present('pages.js')) await script('_static/pages.js');
    if (!present('searchindex.js')) await script('searchindex.js');
  })());
  const describe = box => new MutationObserver(() => all('li:not(.cl-seen)', box).forEach(li => {
    li.classList.add('cl-seen');
    const a = li.querySelector('a');
    if (!a || !window.clPages) return;
    const href = a.getAttribute('href'), page = href.replace(/^(\.\.\/)+/, '').replace(/\.html.*$/, '');
    if (root && !href.startsWith(root)) a.href = root + href;
    const hit = window.clPages[page];
    if (!hit || li.querySelector('span')) return;
    const line = document.createElement('span');
    line.className = 'cl-hit';
    line.textContent = [hit[1], hit[0]].filter(Boolean).join(' · ');
    li.append(line);
  })).observe(box, { childList: true, subtree: true });
  const searchDialog = () => {
    const dialog = document.getElementById('pst-search-dialog'), input = dialog && dialog.querySelector('input[name=q]');
    if (!input) return;
    const box = document.createElement('section');
    box.id = 'search-results';
    let timer = null, last = '';
    const run = async () => {
      const words = input.value.trim();
      if (words === last) return;
      last = words;
      await loadIndex();
      box.textContent = '';
      if (words) Search.performSearch(words);
    };
    if (!document.getElementById('search-results')) {
      dialog.append(box);
      describe(box);
      input.addEventListener('focus', loadIndex);
      input.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(run, 180); });
    } else { describe(document.getElementById('search-results')); loadIndex(); }
  };

  // ---- filters of the gallery and of the claims table ----
  const gallery = () => {
    const form = document.querySelector('.cl-filter:not(.cl-claimfilter)'), cards = all('.cl-card[data-text]');
    if (!form) return;
    const state = { level: '', part: '', words: '' }, none = document.querySelector('.cl-none');
    const apply = () => {
      const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      cards.forEach(c => {
        const ok = (!state.level || c.dataset.level === state.level) && (!state.part || c.dataset.part === state.part) && words.every(w => c.dataset.text.includes(w));
        c.hidden = !ok; shown += ok;
      });
      all('.cl-partgroup').forEach(g => { g.hidden = !g.querySelector('.cl-card:not([hidden])'); });
      form.querySelector('.cl-count').textContent = `${shown} chapter${shown === 1 ? '' : 's'}`;
      if (none) none.hidden = shown > 0;
    };
    all('.cl-seg button', form).forEach(b => b.addEventListener('click', () => {
      state.level = b.dataset.level;
      all('.cl-seg button', form).forEach(x => x.setAttribute('aria-pressed', String(x === b)));
      apply();
    }));
    form.elements.part.addEventListener('change', e => { state.part = e.target.value; apply(); });
    form.elements.words.addEventListener('input', e => { state.words = e.target.value; apply(); });
  };
  const claims = () => {
    const form = document.querySelector('.cl-claimfilter'), rows = all('.cl-claims tbody tr'), buttons = all('.cl-counts button');
    if (!form) return;
    let verdict = '';
    const texts = new Map(rows.map(r => [r, r.textContent.toLowerCase()]));
    const apply = () => {
      const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach(r => {
        const text = texts.get(r);
        const ok = (!verdict || r.dataset.verdict === verdict) && (form.elements.ablations.checked || r.dataset.ablation === '0') && words.every(w => text.includes(w));
        r.hidden = !ok; shown += ok;
      });
      form.querySelector('.cl-count').textContent = `${shown} row${shown === 1 ? '' : 's'}`;
    };
    buttons.forEach(b => b.addEventListener('click', () => {
      verdict = verdict === b.dataset.verdict ? '' : b.dataset.verdict;
      buttons.forEach(x => x.setAttribute('aria-pressed', String(x.dataset.verdict === verdict)));
      apply();
    }));
    form.elements.words.addEventListener('input', apply);
    form.elements.ablations.addEventListener('change', apply);
  };

  // ---- the map: what a chapter rests on and what rests on it ----
  const map = () => {
    const svg = document.querySelector('svg.cl-map');
    if (!svg) return;
    const edges = all('.cl-edges path', svg), nodes = new Map(all('.cl-node', svg).map(n => [n.dataset.doc, n]));
    const walk = (doc, from, to, seen = new Set()) => {
      edges.forEach(e => {
        if (e.dataset[from] !== doc || seen.has(e)) return;
        seen.add(e);
        walk(e.dataset[to], from, to, seen);
      });
      return seen;
    };
    const light = doc => {
      svg.classList.add('active');
      const on = new Set([...walk(doc, 'to', 'from'), ...walk(doc, 'from', 'to')]), docs = new Set([doc]);
      on.forEach(e => { docs.add(e.dataset.from); docs.add(e.dataset.to); });
      edges.forEach(e => e.classList.toggle('on', on.has(e)));
      nodes.forEach((n, d) => n.classList.toggle('on', docs.has(d)));
    };
    const dark = () => { svg.classList.remove('active'); all('.on', svg).forEach(e => e.classList.remove('on')); };
    nodes.forEach((n, doc) => {
      n.addEventListener('pointerenter', () => light(doc)); n.addEventListener('pointerleave', dark);
      n.addEventListener('focus', () => light(doc)); n.addEventListener('blur', dark);
    });
  };

  // ---- figures with panels side by side keep a readable width on a phone and scroll sideways in their own box ----
  const panels = () => all('div.courselib-widget').forEach(root => {
    const check = () => {
      const fig = root.querySelector('.cl-figure');
      if (root.dataset.state !== 'ready' || !fig || root.classList.contains('cl-panels')) return;
      const layout = fig._fullLayout || {};
      if (!Object.keys(layout).some(k => /^xaxis\d*$/.test(k) && layout[k].domain && layout[k].domain[0] > .1)) return;
      root.classList.add('cl-panels');
      if (window.Plotly) window.Plotly.Plots.resize(fig);
    };
    new MutationObserver(check).observe(root, { attributes: true, attributeFilter: ['data-state'] });
    check();
  });

  const copies = () => all('.cl-copy').forEach(b => b.addEventListener('click', async () => {
    const text = b.parentElement.querySelector('code').textContent;
    try { await navigator.clipboard.writeText(text); b.textContent = 'copied'; } catch (e) { b.textContent = 'select it'; }
    setTimeout(() => { b.textContent = 'copy'; }, 1500);
  }));

  setMath(); searchDialog(); gallery(); claims(); map(); panels(); copies();
  document.addEventListener('DOMContentLoaded', setMath);
})();
