// Draws each <div class="plot" data-chart="name"> from the page's JSON with uPlot, in the colours of the page, again when they or the width change.
(function () {
  "use strict";
  var holder = document.getElementById("charts");
  if (!holder || typeof uPlot === "undefined") return;
  var charts = JSON.parse(holder.textContent), drawn = [];

  function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); }

  function digits(span) { return span >= 20 ? 0 : span >= 2 ? 1 : span >= 0.1 ? 2 : 3; }

  function marks(chart) {
    return { hooks: { draw: [function (u) {
      var c = u.ctx, box = u.bbox;
      c.save();
      chart.marks.forEach(function (mark) {
        var x = Math.round(u.valToPos(mark.x, "x", true));
        if (x < box.left || x > box.left + box.width) return;
        c.strokeStyle = colour(mark.kind === "alarm" ? "bad" : "good");
        c.lineWidth = 1.5 * devicePixelRatio;
        c.setLineDash(mark.kind === "alarm" ? [4 * devicePixelRatio, 4 * devicePixelRatio] : []);
        c.beginPath(); c.moveTo(x, box.top); c.lineTo(x, box.top + box.height); c.stroke();
      });
      if (chart.zero) {
        var y = Math.round(u.valToPos(0, "y", true));
        if (y > box.top && y < box.top + box.height) {
          c.setLineDash([]); c.strokeStyle = colour("muted"); c.lineWidth = devicePixelRatio;
          c.beginPath(); c.moveTo(box.left, y); c.lineTo(box.left + box.width, y); c.stroke();
        }
      }
      c.restore();
    }] } };
  }

  function series(s, gaps) {
    var line = s.style.indexOf("line") >= 0 || s.style.indexOf("dashed") >= 0, ink = colour(s.color);
    return {
      label: s.label, stroke: ink, width: line ? 2 : 0, spanGaps: gaps, dash: s.style.indexOf("dashed") >= 0 ? [6, 4] : undefined,
      paths: line ? undefined : function () { return null; },
      points: { show: s.style.indexOf("points") >= 0, size: line ? 7 : 4, fill: ink, stroke: ink, width: 0 },
      value: function (u, v) { return v === null || v === undefined ? "–" : v.toFixed(3); }
    };
  }

  function options(chart, width) {
    var ink = colour("soft"), grid = { stroke: colour("line"), width: 1 };
    var day = uPlot.fmtDate("{YYYY}-{MM}-{DD}"), month = uPlot.fmtDate("{MMM} {YYYY}");
    var utc = function (t) { return uPlot.tzDate(new Date(t * 1000), "Etc/UTC"); };
    var x = { stroke: ink, grid: grid, ticks: grid, font: "12px system-ui, sans-serif", label: chart.xlabel, labelFont: "12px system-ui, sans-serif", labelSize: 22 };
    if (chart.time && chart.unit === "month") {
      x.splits = chart.x; x.values = function (u, at) {
        var every = Math.ceil(at.length * 48 / Math.max(1, u.width - 70));
        return at.map(function (t, i) { return i % every ? "" : uPlot.fmtDate("{MMM}" + (i === 0 ? "\n{YYYY}" : ""))(utc(t)); });
      };
      x.size = 46;
    } else if (chart.time) {
      x.values = function (u, at) {
        var short = uPlot.fmtDate(at.length > 1 && at[1] - at[0] >= 2400000 ? "{MMM}" : "{D} {MMM}"), year = uPlot.fmtDate("{YYYY}");
        return at.map(function (t, i) {
          var now = year(utc(t));
          return short(utc(t)) + (i === 0 || year(utc(at[i - 1])) !== now ? "\n" + now : "");
        });
      };
      x.space = 62; x.size = 46;
    } else {
      x.space = 70;
    }
    return {
      width: width, height: 250, plugins: [marks(chart)], tzDate: utc, legend: { show: false }, cursor: { drag: { x: false, y: false } },
      scales: { x: { time: chart.time } },
      axes: [x, {
        stroke: ink, grid: grid, ticks: grid, font: "12px system-ui, sans-serif", size: 52,
        values: function (u, at) { var n = at.length > 1 ? digits(at[at.length - 1] - at[0]) : 2; return at.map(function (v) { return v.toFixed(n); }); }
      }],
      series: [{ value: function (u, v) { return v === null ? "" : chart.time ? (chart.unit === "month" ? month : day)(utc(v)) : v.toFixed(3); } }].concat(chart.series.map(function (s) { return series(s, !chart.time || chart.unit === "month"); })),
      hooks: { setCursor: [function (u) {
        var i = u.cursor.idx, told = u.root.parentNode.nextElementSibling;
        if (!told || !told.classList.contains("told")) return;
        told.textContent = i === null || i === undefined ? "\u00a0" : [u.series[0].value(u, u.data[0][i])].concat(chart.series.map(function (s, k) {
          return s.label + " " + u.series[k + 1].value(u, u.data[k + 1][i]);
        })).join("  ·  ");
      }] }
    };
  }

  function draw() {
    drawn.forEach(function (u) { u.destroy(); });
    drawn = [];
    document.querySelectorAll(".plot[data-chart]").forEach(function (place) {
      var chart = charts[place.getAttribute("data-chart")];
      if (!chart) return;
      var data = [chart.x].concat(chart.series.map(function (s) { return s.values; }));
      drawn.push(new uPlot(options(chart, place.clientWidth), data, place));
    });
    document.documentElement.setAttribute("data-charts", String(drawn.length));
  }

  var waiting = 0, width = window.innerWidth;
  draw();
  window.addEventListener("resize", function () {
    if (window.innerWidth === width) return;
    width = window.innerWidth; clearTimeout(waiting); waiting = setTimeout(draw, 120);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
