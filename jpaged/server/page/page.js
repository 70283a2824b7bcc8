// Which model, light or dark, and what happens first.

(() => {
  const root = document.documentElement,
    system = matchMedia("(prefers-color-scheme: dark)");
  const repaint = () => redraws.forEach(draw => draw());
  const setDark = isDark => {
    root.classList.toggle("dark", isDark);
    repaint();
  };
  setDark(system.matches);
  system.addEventListener("change", event => setDark(event.matches));
  byId("theme").addEventListener("click", () => setDark(!root.classList.contains("dark")));
  addEventListener("resize", repaint);

  let models = [];
  function choose() {
    const model = models.find(each => each.name === byId("model").value);
    const size = amount(model.num_parameters);
    byId("about").textContent =
      `${model.architecture}, ${size} parameters, ${model.dtype}; ` +
      `${amount(model.max_model_len)} tokens of context, ${model.max_num_seqs} at a time`;
    chat.setModel(model);
    engine.watch(model.name);
  }

  async function begin() {
    models = await (await ask("/page/models")).json();
    byId("model").replaceChildren(...models.map(({ name }) => element("option", {}, name)));
    byId("model").addEventListener("change", choose);
    if (models.length) choose();
    byId("prompt").focus(); // choosing another model by its keys leaves them there
  }
  begin().catch(error => (byId("state").textContent = error.message));
})();
