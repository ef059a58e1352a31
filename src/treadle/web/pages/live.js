// Keeps the parts of a page that are marked data-live="seconds" up to date: the page is asked for again, and what changed in those parts is put in.
// A part in which somebody types, or has opened something, is left alone. When the server is gone or the session has ended, the page says so.
(function () {
  "use strict";
  var parts = document.querySelectorAll("[data-live][id]"), banner = document.getElementById("offline");
  document.addEventListener("submit", function (event) {
    var form = event.target, question = form.getAttribute("data-ask");
    if (form.hasAttribute("data-sent")) return event.preventDefault();  // pressed twice
    if (question && !window.confirm(question)) return event.preventDefault();
    if (form.getAttribute("method") !== "post") return;
    form.setAttribute("data-sent", "");
    setTimeout(function () { form.removeAttribute("data-sent"); }, 5000);  // whoever stopped it may press again
  });
  window.addEventListener("pageshow", function () {
    Array.prototype.forEach.call(document.querySelectorAll("form[data-sent]"), function (form) { form.removeAttribute("data-sent"); });
  });
  if (!parts.length || !window.fetch || !window.DOMParser) return;
  var every = Math.min.apply(null, Array.prototype.map.call(parts, function (p) { return +p.getAttribute("data-live") || 5; })) * 1000, wait = every;

  function busy(part) {
    return part.contains(document.activeElement) && /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
  }

  function say(text) {
    if (!banner) return;
    banner.hidden = !text;
    if (banner.textContent !== text) banner.textContent = text;
  }

  function look() {
    if (document.hidden) return setTimeout(look, wait);
    fetch(location.href, { headers: { "X-Live": "1" }, credentials: "same-origin", redirect: "manual" }).then(function (answer) {
      if (answer.type === "opaqueredirect" || answer.status === 401) { say("You were signed out. Load the page again to sign in."); wait = 30000; return ""; }
      if (!answer.ok) throw new Error(String(answer.status));
      say(""); wait = every;
      return answer.text();
    }).then(function (text) {
      if (!text) return;
      var fresh = new DOMParser().parseFromString(text.replace(/<style[^]*?<\/style>/g, ""), "text/html");  // its styles have another nonce
      Array.prototype.forEach.call(parts, function (part) {
        var now = fresh.getElementById(part.id);
        if (!now || busy(part) || part.querySelector("details[open]") || now.innerHTML === part.getAttribute("data-was")) return;
        part.innerHTML = now.innerHTML;
        part.setAttribute("data-was", now.innerHTML);
      });
    }).catch(function () { say("The server does not answer. What you see may be out of date; it is asked again."); wait = Math.min(wait * 2, 30000); })
      .then(function () { setTimeout(look, wait); });
  }
  setTimeout(look, every);
})();
