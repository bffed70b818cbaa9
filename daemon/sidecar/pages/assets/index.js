// The front page: in development a whole sale on one desk, otherwise a sign on the door.

const at = (id) => document.getElementById(id);
const wide = matchMedia("(min-width: 1180px)");
// A new customer each time the page is opened: whoever presses reload wants to pay again.
const session = "demo-" + Array.from(crypto.getRandomValues(new Uint8Array(4)), (b) => b.toString(16).padStart(2, "0")).join("");

let status;

async function look() {
  try {
    const response = await fetch("/status", { cache: "no-store" });
    const first = status === undefined;
    status = response.ok ? await response.json() : {};
    health(response.ok);
    if (first) arrange();
  } catch {
    at("health").dataset.state = "stale";
    at("health").textContent = "Not running";
  }
  setTimeout(look, status ? 5000 : 1000);
}

function health(known) {
  const cut = status.link && status.link.connected === false;
  at("health").dataset.state = !known ? "" : cut ? "stale" : "live";
  const slow = !cut && status.link?.transport === "websocket";
  at("health").textContent = !known ? "" : cut ? "Running, but not connected to the edge" : slow ? "Running, over WebSocket" : "Running";
  at("health").title = slow ? (status.link.why ?? "") : "";
}

function arrange() {
  at("links").hidden = false;
  if (!status.dev) return;
  const phone = status.phone ?? "/phone";
  at("pay-link").href = `/pay/${session}`;
  at("phone-link").href = phone;
  at("link-checkout").hidden = at("link-phone").hidden = false;
  at("next").hidden = false;
  at("curl").textContent = curl(status.callback ?? "http://127.0.0.1:8788/c/KEY");
  at("listen").textContent = `import { subscribe } from "${location.origin}/client.js";\n\nsubscribe({\n  session: "${session}",\n  onMessage: (m) => console.log(m.data.status, m.data.reason),\n});`;
  addresses([
    ["Sidecar", location.origin, "the API, these pages, WebSockets"],
    ["Edge", status.edge, "where callbacks come in"],
    ["Sandbox", status.sandbox, "the pretend M-Pesa: its API, and the phone"],
  ]);
  desk(phone);
  wide.addEventListener("change", () => desk(phone));
}

// The frames exist only where there is room for them: three pages on one small screen would be three too small ones.
function desk(phone) {
  const box = at("desk");
  box.hidden = !wide.matches;
  at("links").hidden = wide.matches;
  if (!wide.matches || box.children.length) return;
  for (const [step, name, what, address] of [
    [1, "Checkout", "press Pay", `/pay/${session}`],
    [2, "Phone", "type any four digits, then Send", phone],
    [3, "Till", "and the shop knows", "/till"],
  ]) {
    const figure = document.createElement("figure");
    figure.className = `screen screen-${name.toLowerCase()}`;
    const caption = document.createElement("figcaption");
    const link = document.createElement("a");
    link.href = address;
    link.target = "_blank";
    link.rel = "noopener";
    link.textContent = name;
    const note = document.createElement("span");
    note.textContent = what;
    const number = document.createElement("b");
    number.className = "step";
    number.textContent = step;
    caption.append(number, link, note);
    const frame = document.createElement("iframe");
    frame.src = address;
    frame.title = name;
    frame.dataset.testid = `frame-${name.toLowerCase()}`;
    figure.append(caption, frame);
    box.append(figure);
  }
}

function curl(callback) {
  return `curl ${callback} \\
  -H 'Content-Type: application/json' \\
  -d '{"Body": {"stkCallback": {
    "MerchantRequestID": "29115-34620561-1",
    "CheckoutRequestID": "ws_CO_191220191020363925",
    "ResultCode": 1032,
    "ResultDesc": "Request cancelled by user."}}}'`;
}

function addresses(list) {
  at("addresses").replaceChildren(...list.filter(([, address]) => address).map(([name, address, what]) => {
    const row = document.createElement("div");
    const term = document.createElement("dt"), value = document.createElement("dd"), code = document.createElement("code");
    term.textContent = name;
    code.textContent = address;
    const note = document.createElement("span");
    note.textContent = what;
    value.append(code, note);
    row.append(term, value);
    return row;
  }));
}

at("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(at("curl").textContent);
    at("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(at("curl"));
    at("copy").textContent = "Selected";
  }
  setTimeout(() => (at("copy").textContent = "Copy"), 2000);
});

look();
