// The dialogs: native ones, which keep the focus, close with Escape and need no library.

import { inWords } from "./format.js";

const { createElement: h, useEffect, useRef, useState } = globalThis.React;

const FIELDS = {
  agent_state: "State",
  remote_status: "The service's word",
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
  const close = { ref: dialog, className: "at-dialog", onClose, "aria-label": title };
  return h("dialog", close, h("h2", null, title), children);
}

// Ask for the text of a message.
export function MessageDialog({ row, onSend, onClose }) {
  const [text, setText] = useState("");
  const submit = (event) => {
    event.preventDefault();
    onSend(text);
  };
  return h(
    Dialog,
    { title: `Message to agent task ${row.agent_task_id}`, onClose },
    h(
      "form",
      { onSubmit: submit },
      h("textarea", {
        "aria-label": "Message",
        autoFocus: true,
        rows: 6,
        value: text,
        onChange: (event) => setText(event.target.value),
      }),
      h(Buttons, { name: "Send", isDisabled: !text.trim(), onClose }),
    ),
  );
}

// Ask whether to stop an agent task.
export function StopDialog({ row, onConfirm, onClose }) {
  const submit = (event) => {
    event.preventDefault();
    onConfirm();
  };
  return h(
    Dialog,
    { title: `Stop agent task ${row.agent_task_id}?`, onClose },
    h("p", null, "Its Airflow task is marked failed, if it has not ended, and is not retried."),
    h("form", { onSubmit: submit }, h(Buttons, { name: "Stop", isDisabled: false, onClose })),
  );
}

function Buttons({ name, isDisabled, onClose }) {
  return h(
    "div",
    { className: "at-actions" },
    h("button", { type: "submit", disabled: isDisabled }, name),
    h("button", { type: "button", onClick: onClose }, "Cancel"),
  );
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
    h("div", { className: "at-actions" }, h("button", { onClick: onClose }, "Close")),
  );
}

function describe(value, name, label) {
  if (value === "" || value === null || value === undefined) return [];
  const text = name === "agent_state" ? inWords(value) : String(value);
  return [h("dt", { key: `${name} name` }, label), h("dd", { key: name }, text)];
}
