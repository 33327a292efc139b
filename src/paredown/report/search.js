"use strict";
// The search's plot: the reader chooses what lies along its axes, and opens trials by touching their points.
(function () {
  var report = window.report, plot = document.getElementById("chart-pareto");
  if (!plot || !window.Plotly) return;
  var figure = report.figures.pareto, choice = {}, opened = null;
  var buttons = document.querySelectorAll("button[data-view]");
  Object.keys(figure.views).forEach(function (view) { choice[view] = Object.keys(figure.views[view])[0]; });
  buttons.forEach(function (button) {
    if (button.getAttribute("aria-pressed") === "true") choice[button.dataset.view] = button.dataset.choice;
  });

  report.chosen.pareto = function () {
    var data = figure.data, layout = figure.layout;
    Object.keys(choice).forEach(function (view) {
      var over = figure.views[view][choice[view]];
      data = data.map(function (trace, place) { return Object.assign({}, trace, over.data ? over.data[place] : {}); });
      layout = Object.assign({}, layout, over.layout);
    });
    return { data: data.concat(ring(data)), layout: layout };
  };

  // A ring about the point that is open.
  function ring(data) {
    var marker = { symbol: "circle-open", size: 26, color: "--ink", line: { color: "--ink", width: 2 } };
    var trace = { type: "scatter", mode: "markers", hoverinfo: "skip", x: [], y: [], marker: marker };
    data.forEach(function (one) {
      var place = opened === null || !one.customdata ? -1 : one.customdata.indexOf(opened);
      if (place >= 0) { trace.x.push(one.x[place]); trace.y.push(one.y[place]); }
    });
    return trace;
  }

  function hoverText(place) {
    var text = "";
    figure.data.forEach(function (trace) {
      var found = trace.customdata ? trace.customdata.indexOf(place) : -1;
      if (found >= 0) text = trace.text[found];
    });
    return text.split("<br>").map(function (line) {
      return new DOMParser().parseFromString(line, "text/html").documentElement.textContent;
    });
  }

  function fill(id, text) { document.getElementById(id).textContent = text; }

  function open(place) {
    var details = document.getElementById("trial-" + place), lines = hoverText(place);
    var list = document.getElementById("opened-figures"), recipe = details && details.querySelector("pre");
    opened = place;
    fill("opened-title", lines[0] || "");
    fill("opened-label", details ? details.querySelector(".what").textContent.replace(/^\S+ /, "") : lines.slice(1).join(" "));
    list.replaceChildren.apply(list, details ? details.querySelector("dl").cloneNode(true).childNodes : []);
    fill("opened-recipe", recipe ? recipe.textContent : "");
    document.getElementById("opened-with").hidden = !recipe;
    document.getElementById("opened-without").hidden = !!recipe;
    document.getElementById("opened").hidden = false;
  }

  buttons.forEach(function (button) {
    button.addEventListener("click", function () {
      choice[button.dataset.view] = button.dataset.choice;
      buttons.forEach(function (other) {
        if (other.dataset.view !== button.dataset.view) return;
        other.setAttribute("aria-pressed", String(other === button));
      });
      var beyond = document.getElementById("beyond");
      if (beyond) beyond.hidden = choice.y !== "near";
      report.draw();
    });
  });

  var first = document.getElementById("opened").dataset.open;
  if (first !== "") open(Number(first));
  document.addEventListener("DOMContentLoaded", function () {
    plot.on("plotly_click", function (event) {
      var place = event.points[0].customdata;
      if (place === null || place === undefined) return;
      open(place);
      report.draw();
      document.getElementById("opened").scrollIntoView({ block: "nearest" });
    });
  });
})();
