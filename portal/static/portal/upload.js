// A file that is too large is told before it travels; the server refuses it as well.
(() => {
  "use strict";
  for (const input of document.querySelectorAll("input[type=file][data-most-bytes]")) {
    input.addEventListener("change", () => {
      const file = input.files[0];
      const isTooLarge = file && file.size > Number(input.dataset.mostBytes);
      input.setCustomValidity(isTooLarge ? input.dataset.tooLarge : "");
      if (isTooLarge) input.reportValidity();
      input.form.noValidate = !isTooLarge;
    });
  }
})();
