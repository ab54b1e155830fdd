// Passkeys: the browser's dialogue between a form and its hidden field "credential".
// What a form is for stands in data-passkey (add, use, login) and, but for login, what
// the server asks of the authenticator in the JSON block that data-options names.
(() => {
  "use strict";
  const problems = {
    NotAllowedError: "The passkey was not used: the request was cancelled or took too long.",
    InvalidStateError: "This device has a passkey for your account already.",
    NotSupportedError: "This browser or device does not support passkeys.",
    SecurityError: "Passkeys work over https, or on localhost, under a host name only.",
  };

  const say = (form, text) => {
    form.querySelector("[data-passkey-problem]").textContent = text;
  };

  const fetchOptions = async (form) => {
    const response = await fetch(form.action, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return (await response.json()).request_options;
  };

  const optionsOf = (form) => {
    const block = document.getElementById(form.dataset.options);
    const options = JSON.parse(block.textContent);
    return options.creation_options ?? options.request_options;
  };

  // A passkey that logs in alone must be found by the device and be locked by its owner.
  const withWish = (options, alone) => {
    const selection = options.publicKey.authenticatorSelection;
    selection.residentKey = alone ? "required" : "discouraged";
    selection.requireResidentKey = alone;
    if (alone) selection.userVerification = "required";
    return options;
  };

  const ask = async (form) => {
    if (form.dataset.passkey === "login") return webauthnJSON.get(await fetchOptions(form));
    if (form.dataset.passkey === "use") return webauthnJSON.get(optionsOf(form));
    return webauthnJSON.create(withWish(optionsOf(form), form.elements.passwordless.checked));
  };

  const run = async (form, button) => {
    say(form, "");
    button.disabled = true;
    try {
      form.elements.credential.value = JSON.stringify(await ask(form));
      form.submit();
    } catch (error) {
      say(form, problems[error.name] ?? "The passkey could not be used. Please try again.");
      button.disabled = false;
    }
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-passkey-button]");
    if (button) run(button.form, button);
  });
})();
