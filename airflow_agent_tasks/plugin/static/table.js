// The table of agent tasks.

import { ACTION_NAMES, age, dagPath, formPath, inWords, keyOf, logPath, runPath } from "./format.js";

const { createElement: h } = globalThis.React;

const COLUMNS = ["DAG and run", "Task", "Task state", "Agent task", "Agent state", "Step", "Since", "Usage", "Actions"];

// Why a row has no agent task.
const WITHOUT_ID = {
  unconfirmed: "start not confirmed by the service",
  elsewhere: "in the workers' own state store",
  damaged: "its record is damaged",
};

export function Table({ rows, isBusy, isSending, onDetails, onAction }) {
  const now = Date.now();
  return h(
    "table",
    { className: "at-table", "aria-busy": isBusy },
    h("thead", null, h("tr", null, COLUMNS.map((name) => h("th", { key: name, scope: "col" }, name)))),
    h(
      "tbody",
      null,
      rows.map((row) => h(Row, { key: keyOf(row), row, now, isSending, onDetails, onAction })),
      !rows.length && !isBusy && h("tr", null, h("td", { colSpan: COLUMNS.length }, "No agent tasks match.")),
    ),
  );
}

function Row({ row, now, isSending, onDetails, onAction }) {
  const task = row.map_index < 0 ? row.task_id : `${row.task_id} [${row.map_index}]`;
  const cells = [
    [
      h("div", { key: "dag" }, h(PageLink, { to: dagPath(row) }, row.dag_id)),
      h("div", { key: "run", className: "at-muted" }, h(PageLink, { to: runPath(row) }, row.run_id)),
    ],
    h(PageLink, { to: logPath(row), title: "Open the log" }, task),
    h(State, { state: row.state }),
    h(Agent, { row, onDetails }),
    h(AgentState, { row }),
    row.step,
    h("span", { title: row.submitted_at && new Date(row.submitted_at * 1000).toLocaleString() }, age(row.submitted_at, now)),
    row.usage,
    h(Actions, { row, isSending, onAction }),
  ];
  return h("tr", null, cells.map((cell, index) => h("td", { key: COLUMNS[index], "data-column": COLUMNS[index] }, cell)));
}

// A link to another page of Airflow, without loading Airflow again where its router is at hand.
function PageLink({ to, ...rest }) {
  const { Link } = globalThis.ReactRouterDOM ?? {};
  return Link ? h(Link, { to: `/${to}`, ...rest }) : h("a", { href: new URL(to, document.baseURI).href, ...rest });
}

function State({ state }) {
  return state ? h("span", { className: "at-state", "data-state": state }, inWords(state)) : null;
}

function Agent({ row, onDetails }) {
  if (!row.agent_task_id) return WITHOUT_ID[row.record];
  const label = `Details of agent task ${row.agent_task_id}`;
  const details = { key: "id", className: "at-link", onClick: () => onDetails(row), "aria-label": label };
  return [
    row.has_details ? h("button", details, row.agent_task_id) : h("span", { key: "id" }, row.agent_task_id),
    h(
      "div",
      { key: "service", className: "at-muted" },
      [row.service, row.agent_id].filter(Boolean).join(", "),
      row.url && [" ", h("a", { key: "url", href: row.url, target: "_blank", rel: "noopener noreferrer" }, "Watch")],
    ),
  ];
}

function AgentState({ row }) {
  const isOpen = row.question_url && row.state === "awaiting_input";
  return [
    h(State, { key: "state", state: row.agent_state }),
    isOpen && h("div", { key: "form" }, h(PageLink, { to: formPath(row) }, "Answer")),
  ];
}

function Actions({ row, isSending, onAction }) {
  return h(
    "div",
    { className: "at-actions" },
    row.actions.map((action) => {
      const label = `${ACTION_NAMES[action]} agent task ${row.agent_task_id}`;
      const click = { key: action, disabled: isSending, onClick: () => onAction(row, action), "aria-label": label };
      return h("button", click, ACTION_NAMES[action]);
    }),
  );
}
