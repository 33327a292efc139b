"use strict";
(function () {
  var figures = JSON.parse(document.getElementById("figures").textContent);

  // Colours are named by style sheet variables; only under keys that hold colours, so that no label is taken for one.
  function coloured(value, key, style) {
    if (Array.isArray(value)) return value.map(function (one) { return coloured(one, key, style); });
    if (value && typeof value === "object") {
      var out = {};
      Object.keys(value).forEach(function (name) { out[name] = coloured(value[name], name, style); });
      return out;
    }
    var named = typeof value === "string" && value.startsWith("--") && /color(scale)?$/.test(key);
    return named ? style.getPropertyValue(value).trim() : value;
  }

  // What is drawn of a figure instead of all of it, by name: what the reader chose to see.
  var chosen = {};

  function draw() {
    var style = getComputedStyle(document.documentElement);
    Object.keys(figures).forEach(function (name) {
      var place = document.getElementById("chart-" + name);
      if (!place || !figures[name]) return;
      var figure = coloured(chosen[name] ? chosen[name](figures[name]) : figures[name], "", style);
      Plotly.react(place, figure.data, figure.layout, { displayModeBar: false, responsive: true });
    });
  }

  function copy(button) {
    var source = document.getElementById(button.dataset.copy);
    function say(word) { button.textContent = word; setTimeout(function () { button.textContent = "Copy"; }, 1500); }
    function select() {
      getSelection().selectAllChildren(source);
      say(document.execCommand("copy") ? "Copied" : "Selected");
    }
    if (!navigator.clipboard) return select();
    navigator.clipboard.writeText(source.textContent).then(function () { say("Copied"); }, select);
  }

  var outline = document.querySelector(".outline"), told = document.getElementById("outline-told");
  if (outline) {
    ["click", "pointerover"].forEach(function (name) {
      outline.addEventListener(name, function (event) {
        var column = event.target.closest("g");
        if (column) told.textContent = column.querySelector("title").textContent;
      });
    });
  }

  document.querySelectorAll("button[data-copy]").forEach(function (button) {
    button.addEventListener("click", function () { copy(button); });
  });
  window.report = { figures: figures, chosen: chosen, draw: draw };
  if (window.Plotly) {
    document.addEventListener("DOMContentLoaded", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }
})();
