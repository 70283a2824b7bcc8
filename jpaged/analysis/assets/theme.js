// Light or dark: as the system has it, until somebody says otherwise.

function theme() {
  const root = document.documentElement,
    system = matchMedia("(prefers-color-scheme: dark)");
  const set = dark => {
    root.classList.toggle("dark", dark);
    for (const draw of redraws) draw();
  };
  set(system.matches);
  system.addEventListener("change", event => set(event.matches));
  find("theme").addEventListener("click", () => set(!root.classList.contains("dark")));
  let last = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== last) {
      last = innerWidth;
      for (const draw of redraws) draw();
    }
  });
}

theme();
