// The dialogs: native ones, which keep the focus, close with Escape and need no library.

import { inWords } from "./format.js";

const { createElement: h, useEffect, useRef, useState } = globalThis.React;

// Close the dialog around a button: the browser then gives the focus back to the button that opened it.
const close = (event) => event.currentTarget.closest("dialog").close();

const FIELDS = {
  agent_state: "State",
  remote_status: "Status on the service",
  question: "Question",
  step: "Step",
  usage: "Usage",
  exit_code: "Exit code",
  service: "Service",
  conn_id: "Connection",
  agent_id: "Agent",
};

function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  return h("dialog", { ref: dialog, className: "at-dialog", onClose, "aria-label": title }, h("h2", null, title), children);
}

// Ask for the text of a message.
export function MessageDialog({ row, send, onClose }) {
  const [text, setText] = useState("");
  const { error, isSending, submit } = useSubmit(() => send(text));
  return h(
    Dialog,
    { title: `Message to agent task ${row.agent_task_id}`, onClose },
    h(
      "form",
      { onSubmit: submit },
      h("textarea", {
        "aria-label": "Message",
        rows: 6,
        value: text,
        onChange: (event) => setText(event.target.value),
      }),
      error && h("p", { role: "alert" }, error),
      h(Buttons, { name: "Send", isDisabled: isSending || !text.trim() }),
    ),
  );
}

// Ask whether to stop an agent task.
export function StopDialog({ row, send, onClose }) {
  const { error, isSending, submit } = useSubmit(send);
  return h(
    Dialog,
    { title: `Stop agent task ${row.agent_task_id}?`, onClose },
    h("p", null, "Its Airflow task is marked failed, if it has not ended, and is not retried."),
    error && h("p", { role: "alert" }, error),
    h("form", { onSubmit: submit }, h(Buttons, { name: "Stop", isDisabled: isSending, isCancelFirst: true })),
  );
}

// Send once; the dialog stays open until that has succeeded, so that no text is lost.
function useSubmit(send) {
  const [state, setState] = useState({ error: "", isSending: false });
  const submit = async (event) => {
    event.preventDefault();
    const dialog = event.currentTarget.closest("dialog");
    setState({ error: "", isSending: true });
    try {
      await send();
      dialog.close();
    } catch (failure) {
      setState({ error: failure.message, isSending: false });
    }
  };
  return { ...state, submit };
}

function Buttons({ name, isDisabled, isCancelFirst }) {
  const submit = h("button", { key: "submit", type: "submit", disabled: isDisabled }, name);
  const cancel = h("button", { key: "cancel", type: "button", onClick: close }, "Cancel");
  // The browser gives the focus to the first.
  return h("div", { className: "at-actions" }, isCancelFirst ? [cancel, submit] : [submit, cancel]);
}

// Show an agent task as its service describes it now.
export function DetailsDialog({ row, load, onClose }) {
  const [task, setTask] = useState(null);
  const [error, setError] = useState("");
  useEffect(() => {
    load(row).then(setTask, (failure) => setError(failure.message));
  }, []);
  return h(
    Dialog,
    { title: `Agent task ${row.agent_task_id}`, onClose },
    error && h("p", { role: "alert" }, error),
    !task && !error && h("p", null, "Asking the service…"),
    task && h("dl", null, Object.entries(FIELDS).flatMap(([name, label]) => describe(task[name], name, label))),
    h("div", { className: "at-actions" }, h("button", { onClick: close }, "Close")),
  );
}

function describe(value, name, label) {
  if (value === "" || value === null || value === undefined) return [];
  const text = name === "agent_state" ? inWords(value) : String(value);
  return [h("dt", { key: `${name} name` }, label), h("dd", { key: name }, text)];
}
