//! The colours, light and dark, that the SVG and the HTML have in common.

/// Contrast with its background is at least 4.5 for text and 3 for marks (WCAG 2.2).
pub(super) const THEME: &str = "\
:root,svg.swarm{--bg:#fff;--fg:#1f2328;--muted:#59636e;--line:#d1d9e0;--panel:#f6f8fa;\
--done:#1a7f37;--done-bg:#dafbe1;--failed:#cf222e;--failed-bg:#ffebe9;--open:#8a5a00;--open-bg:#fff8c5;\
--reused:#0969da;--reused-bg:#ddf4ff;--undo:#7b3fd4;--undo-bg:#f3e8ff;--idle:#6e7781;--idle-bg:#eef1f4;--crit:#bc4c00}
@media screen and (prefers-color-scheme:dark){:root,svg.swarm{--bg:#0d1117;--fg:#e6edf3;--muted:#9198a1;--line:#3d444d;--panel:#151b23;\
--done:#3fb950;--done-bg:#12301c;--failed:#f85149;--failed-bg:#3d1619;--open:#d29922;--open-bg:#2f2610;\
--reused:#4493f8;--reused-bg:#11233f;--undo:#b28bfa;--undo-bg:#2a1b4a;--idle:#848d97;--idle-bg:#212830;--crit:#f0883e}}
";

/// What the graph and the timeline are drawn with.
pub(super) const DRAWING: &str = "\
svg.swarm{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;fill:var(--fg);print-color-adjust:exact;-webkit-print-color-adjust:exact}
.swarm text{fill:var(--fg)}.swarm .m,.swarm text.m{fill:var(--muted)}
.swarm .ground{fill:var(--bg)}.swarm .grid{stroke:var(--line);fill:none}.swarm .band{fill:var(--panel)}
.swarm .done{--c:var(--done);--b:var(--done-bg)}.swarm .failed{--c:var(--failed);--b:var(--failed-bg)}\
.swarm .open{--c:var(--open);--b:var(--open-bg)}.swarm .reused{--c:var(--reused);--b:var(--reused-bg)}\
.swarm .undo{--c:var(--undo);--b:var(--undo-bg)}.swarm .idle,.swarm .skipped,.swarm .blocked{--c:var(--idle);--b:var(--idle-bg)}
.swarm .box{fill:var(--b);stroke:var(--c)}.swarm .skipped .box,.swarm .blocked .box,.swarm .idle .box{stroke-dasharray:4 3}
.swarm .edge{fill:none;stroke:var(--idle);stroke-width:1.2}.swarm .opt{stroke-dasharray:5 4}.swarm .far{opacity:.55}.swarm .hub{opacity:.18}
.swarm .edge.crit{stroke:var(--crit);stroke-width:2.4;opacity:1}.swarm .crit .box{stroke-width:2.6}.swarm .crit .name{font-weight:700}
.swarm .tip{fill:var(--idle)}.swarm .tip.crit{fill:var(--crit)}
.swarm .mark{fill:var(--c);font-weight:700}
.swarm .bar{fill:var(--c)}.swarm .open.bar{fill:var(--b);stroke:var(--c);stroke-dasharray:3 2}
.swarm .wait{stroke:var(--idle);stroke-width:1.2;fill:none}.swarm .back{stroke-dasharray:2 2}.swarm .long{stroke:var(--reused);stroke-width:2}
.swarm .critbar{fill:var(--crit)}.swarm .cross{stroke:var(--bg);stroke-width:1.6;fill:none}
.swarm .gate{fill:var(--c);stroke:var(--bg);stroke-width:1}
.swarm .cut{fill:var(--idle-bg)}.swarm .cutline{stroke:var(--muted);stroke-dasharray:2 3;fill:none}
.swarm a{text-decoration:none}.swarm a:hover .name,.swarm a:focus .name{text-decoration:underline}
";

/// The page around them.
pub(super) const PAGE: &str = "\
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:14px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:20px 16px 48px}h1{font-size:24px;margin:0;overflow-wrap:anywhere}h2{font-size:17px;margin:28px 0 8px}
header{display:flow-root}header h1{display:inline-block;margin-right:12px}.status{display:inline-block;margin:0}
.status b{display:inline-block;padding:1px 12px;border-radius:12px;border:1px solid var(--c);color:var(--c);background:var(--b)}
.done{--c:var(--done);--b:var(--done-bg)}.failed{--c:var(--failed);--b:var(--failed-bg)}.open{--c:var(--open);--b:var(--open-bg)}
.reused{--c:var(--reused);--b:var(--reused-bg)}.undo{--c:var(--undo);--b:var(--undo-bg)}.idle,.skipped,.blocked{--c:var(--muted);--b:var(--idle-bg)}
dl{display:flex;flex-wrap:wrap;gap:4px 28px;margin:12px 0 4px}dt{color:var(--muted);font-size:12px}dd{margin:0;overflow-wrap:anywhere}
nav a{margin-right:14px}a{color:var(--reused)}.swarm a,.findings a{color:inherit}
.findings{list-style:none;margin:0;padding:0}.findings>li{border-left:4px solid var(--c);background:var(--b);padding:6px 12px;margin:0 0 8px;border-radius:0 6px 6px 0;overflow-wrap:anywhere}
.findings b{color:var(--c);margin-right:6px}.findings p{margin:2px 0}
pre{margin:4px 0;white-space:pre-wrap;overflow-wrap:anywhere;max-height:14em;overflow:auto;font:12px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.causes{margin:2px 0 4px;padding-left:18px;font-size:12.5px}.causes li::marker{content:'\\21b3  '}
.scroll{overflow:auto;max-height:85vh;border:1px solid var(--line);border-radius:6px}.scroll svg{display:block}.scroll.fit svg{width:100%;height:auto}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px}th,td{text-align:left;vertical-align:top;padding:5px 10px 5px 0;border-bottom:1px solid var(--line)}
thead th{color:var(--muted);font-weight:600;white-space:nowrap}tbody th{font-weight:600;max-width:260px;overflow-wrap:anywhere}td:last-child{overflow-wrap:anywhere;min-width:240px}
.n{text-align:right;font-variant-numeric:tabular-nums}td.n{white-space:nowrap}.state{white-space:nowrap}.state b,.gateline b{color:var(--c)}td .failed pre{color:var(--failed)}
.tag{font-size:11px;font-weight:400;color:var(--crit);border:1px solid;border-radius:8px;padding:0 6px;white-space:nowrap}
tr:target th,tr:target td{background:var(--panel)}details summary{cursor:pointer;color:var(--muted)}.attempts{margin:4px 0;padding-left:22px}
.tools{display:flex;gap:10px;align-items:center;margin:0 0 8px}.tools input,.tools button{font:inherit;color:inherit;background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:3px 10px}
.dim .edge:not(.on){opacity:.12}.dim .edge.on{stroke:var(--fg);stroke-width:2;opacity:1}.dim a:not(.on){opacity:.35}
@media print{.scroll{max-height:none;overflow:visible;border:0}.scroll svg{max-width:100%;height:auto}.tools,nav{display:none}tr,.findings>li{break-inside:avoid}pre{max-height:none}.wide{overflow:visible}}
";

/// Adds a filter to the table, a switch to fit drawings to the page, and shows the neighbours of the step pointed at.
/// Without `<`, `>` and `&`, so that it is the same in HTML and XML.
pub(super) const SCRIPT: &str = "
'use strict';
(function () {
  function make(tag, set, parent, before) {
    var e = document.createElement(tag);
    Object.assign(e, set);
    parent.insertBefore(e, before);
    return e;
  }
  var steps = document.querySelector('#steps .wide');
  var rows = Array.from(steps.querySelectorAll('tbody tr'));
  var tools = make('div', { className: 'tools' }, steps.parentNode, steps);
  var input = make('input', { type: 'search', size: 30, placeholder: 'Filter: name, status, error' }, tools, null);
  input.setAttribute('aria-label', 'Filter steps');
  var count = make('span', { className: 'count' }, tools, null);
  input.addEventListener('input', function () {
    var shown = 0, wanted = input.value.toLowerCase();
    rows.forEach(function (row) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += row.hidden ? 0 : 1;
    });
    count.textContent = wanted ? shown + ' of ' + rows.length : '';
  });
  document.querySelectorAll('.scroll').forEach(function (box) {
    var svg = box.querySelector('svg');
    if (Math.sign(svg.clientWidth - box.clientWidth - 4) === 1) {
      var bar = make('div', { className: 'tools' }, box.parentNode, box);
      var button = make('button', { type: 'button', textContent: 'Fit to width' }, bar, null);
      button.addEventListener('click', function () {
        button.textContent = box.classList.toggle('fit') ? 'Full size' : 'Fit to width';
      });
    }
  });
  var graph = document.querySelector('#graph svg');
  var edges = Array.from(graph.querySelectorAll('[data-e]'));
  var nodes = Array.from(graph.querySelectorAll('[data-n]'));
  nodes.forEach(function (node, at) {
    function leave() {
      graph.classList.remove('dim');
      edges.concat(nodes).forEach(function (e) { e.classList.remove('on'); });
    }
    node.addEventListener('mouseenter', function () {
      leave();
      graph.classList.add('dim');
      node.classList.add('on');
      edges.forEach(function (edge) {
        var ends = edge.dataset.e.split(' ');
        if (ends.includes(String(at))) {
          edge.classList.add('on');
          ends.forEach(function (end) { nodes[Number(end)].classList.add('on'); });
        }
      });
    });
    node.addEventListener('mouseleave', leave);
  });
})();
";
