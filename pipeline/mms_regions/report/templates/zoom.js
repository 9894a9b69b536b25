"use strict";
(() => {
  if (typeof Bokeh === "undefined") return;  // the pictures stay
  Bokeh.logger.set_level("error");

  const draw = async (place) => {
    const panels = place.querySelector(".panels");
    panels.hidden = false;
    try {
      await Bokeh.embed.embed_item(JSON.parse(place.querySelector("script").textContent), panels);
      place.classList.add("drawn");
    } catch (problem) {
      panels.hidden = true;
      console.error(problem);
    }
  };

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      near.unobserve(entry.target);
      draw(entry.target);
    }
  }, {rootMargin: "300px"});

  for (const place of document.querySelectorAll(".zoom")) {
    near.observe(place);
    place.querySelector("button").addEventListener("click", (event) => {
      const still = place.classList.toggle("still");
      event.target.textContent = still ? "Zoom again" : "Show the picture";
    });
  }
})();
