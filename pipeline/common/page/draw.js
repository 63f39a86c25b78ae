for (const figure of document.querySelectorAll("figure")) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const description = figure.querySelector(".plot").getAttribute("aria-label");
  // Expressions are interpreted, not compiled: the page's policy forbids code made of text.
  vegaEmbed(figure.querySelector(".plot"), { ...spec, description }, {
    actions: false, ast: true, defaultStyle: false, renderer: "svg", tooltip: { theme: "custom" },
  });
}
