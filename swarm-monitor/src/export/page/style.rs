//! How the page looks and what moves on it.

/// Contrast with its background is at least 4.5 for text and 3 for lines (WCAG 2.2), light and dark.
pub(super) const STYLE: &str = "\
:root{--bg:#fff;--fg:#1f2328;--muted:#59636e;--line:#d1d9e0;--panel:#f6f8fa;--mean:#0969da;--high:#8250df;--base:#1a7f37;--bad:#cf222e;--bad-bg:#ffebe9;--event:#9a6700}
@media screen and (prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--muted:#9198a1;--line:#3d444d;--panel:#151b23;--mean:#4493f8;--high:#b78bfa;--base:#3fb950;--bad:#f85149;--bad-bg:#3d1619;--event:#d29922}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:14px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}
main{max-width:1240px;margin:0 auto;padding:20px 16px 48px}h1{font-size:24px;margin:0;overflow-wrap:anywhere}h2{font-size:16px;margin:0;overflow-wrap:anywhere}
p{margin:2px 0;overflow-wrap:anywhere}.m,dt{color:var(--muted)}h3{font-size:16px;margin:24px 0 8px}
dl{display:flex;flex-wrap:wrap;gap:2px 24px;margin:8px 0}dt{font-size:12px}dd{margin:0;font-variant-numeric:tabular-nums}
.drifts,.alerts{list-style:none;margin:16px 0;padding:0}.drifts li,.alerts li{border-left:4px solid var(--bad);background:var(--bad-bg);padding:6px 12px;margin:0 0 8px;border-radius:0 6px 6px 0;overflow-wrap:anywhere}
.alerts li:not(.firing){border-color:var(--line);background:var(--panel)}.drifts a,.alerts a{color:inherit;font-weight:600}
.metrics{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,540px),1fr));align-items:start;gap:16px;margin:16px 0}
.metrics>section{border:1px solid var(--line);border-radius:8px;padding:12px 14px;min-width:0}.metrics>section.bad{border-color:var(--bad)}
.head{display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline}.badge{font-size:12px;font-weight:600;color:var(--bad);border:1px solid;border-radius:10px;padding:0 8px;white-space:nowrap}
figure{margin:10px 0 4px}.plot{position:relative;height:170px;margin-left:56px;border-left:1px solid var(--line);border-bottom:1px solid var(--line)}
.plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:hidden}.plot svg *{vector-effect:non-scaling-stroke}
.y{position:absolute;right:100%;margin-right:6px;transform:translateY(-50%);font-size:11px;color:var(--muted);white-space:nowrap;font-variant-numeric:tabular-nums}
.x{display:flex;justify-content:space-between;margin:2px 0 0 56px;font-size:11px;color:var(--muted);font-variant-numeric:tabular-nums}
.grid{stroke:var(--line);stroke-dasharray:2 3}.mean{fill:none;stroke:var(--mean);stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.high{fill:none;stroke:var(--high);stroke-width:1.2;stroke-linecap:round;opacity:.85}.band{fill:var(--base);opacity:.14}.base{stroke:var(--base);stroke-width:1.4;stroke-dasharray:6 4}
.moved{fill:var(--bad);opacity:.13}.moved-from{stroke:var(--bad);stroke-width:1.4}.dots{stroke-width:6}.alert{stroke:var(--bad);stroke-width:4}.event{stroke:var(--event);stroke-width:1.2;stroke-dasharray:3 3}
.cursor{position:absolute;top:0;bottom:0;border-left:1px solid var(--muted);pointer-events:none}
.key{display:flex;flex-wrap:wrap;gap:2px 14px;margin:4px 0 0;padding:0;list-style:none;font-size:12px;color:var(--muted)}.key li::before{content:'';display:inline-block;width:14px;height:0;border-top:3px solid var(--c);margin-right:5px;vertical-align:middle}
.k-mean{--c:var(--mean)}.k-high{--c:var(--high)}.k-base{--c:var(--base)}.k-moved{--c:var(--bad)}.k-event{--c:var(--event)}
.read{font-size:12px;min-height:18px;margin-left:56px;color:var(--muted);font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px}th,td{text-align:left;padding:3px 10px 3px 0;border-top:1px solid var(--line);vertical-align:middle}
th{color:var(--muted);font-weight:600;font-size:12px}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}td:first-child{overflow-wrap:anywhere;min-width:110px}
td svg{display:block;width:120px;height:22px}td svg *{vector-effect:non-scaling-stroke;stroke-width:1}details summary{cursor:pointer;color:var(--muted);font-size:13px;margin-top:6px}
input{font:inherit;color:inherit;background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:4px 10px;width:min(100%,320px)}
@media (max-width:600px){main{padding:14px 10px 32px}.metrics>section{padding:10px}.plot{height:140px;margin-left:46px}.x,.read{margin-left:46px}}
@media print{input{display:none}.metrics>section{break-inside:avoid}}
";

/// Shows the values below the pointer, and finds metrics by name. Without `<` and `&`, so that it is the same in HTML and XML.
pub(super) const SCRIPT: &str = "
'use strict';
(function () {
  document.querySelectorAll('figure[data-at]').forEach(function (figure) {
    var plot = figure.querySelector('.plot'), read = figure.querySelector('.read');
    var at = figure.dataset.at.split(' ').map(Number), said = figure.dataset.said.split('|');
    var cursor = document.createElement('div');
    cursor.className = 'cursor';
    cursor.hidden = true;
    plot.appendChild(cursor);
    plot.addEventListener('pointermove', function (event) {
      var box = plot.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * 1000, best = 0;
      at.forEach(function (one, index) {
        if (Math.sign(Math.abs(at[best] - x) - Math.abs(one - x)) === 1) { best = index; }
      });
      cursor.hidden = false;
      cursor.style.left = at[best] / 10 + '%';
      read.textContent = said[best];
    });
    plot.addEventListener('pointerleave', function () { cursor.hidden = true; read.textContent = ''; });
  });
  var metrics = Array.from(document.querySelectorAll('.metrics section'));
  if (Math.sign(metrics.length - 6) === 1) {
    var input = document.createElement('input');
    input.type = 'search';
    input.placeholder = 'Find metrics and tags';
    input.setAttribute('aria-label', input.placeholder);
    input.addEventListener('input', function () {
      var wanted = input.value.toLowerCase();
      metrics.forEach(function (one) { one.hidden = !one.textContent.toLowerCase().includes(wanted); });
    });
    var list = document.querySelector('.metrics');
    list.parentNode.insertBefore(input, list);
  }
})();
";
