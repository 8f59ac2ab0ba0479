// Shows the document that lies beside this script.
"use strict";

window.SwaggerUIBundle({
  url: new URL("openapi.json", document.currentScript.src).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // a badge of another host
});
