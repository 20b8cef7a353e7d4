// The page "Agent tasks" in the Airflow UI: in the menu, and as a tab of a DAG run and of a task.
//
// Airflow loads this module, and renders the component with the ids of the page around it. It brings React; of
// its other libraries nothing is used, because they change between releases. There is no build.

import { DetailsDialog, MessageDialog, StopDialog } from "./dialogs.js";
import { STATES, TASK_STATES, inWords } from "./format.js";
import * as server from "./server.js";
import { Table } from "./table.js";

const { createElement: h, useCallback, useEffect, useRef, useState } = globalThis.React;

const PAGE_SIZE = 50;
const REFRESH_MS = 5000;
const PERIODS = { 1: "last day", 7: "last 7 days", 30: "last 30 days" };

const stylesheet = document.createElement("link");
stylesheet.rel = "stylesheet";
stylesheet.href = new URL("agent-tasks.css", import.meta.url).href;
document.head.append(stylesheet);

function AgentTasks({ dagId, runId, taskId, mapIndex }) {
  const [filters, setFilters] = useState({ text: "", state: "", agent_state: "", days: 7, active: false });
  const [offset, setOffset] = useState(0);
  const [dialog, setDialog] = useState(null);
  const [notice, setNotice] = useState("");
  const [isSending, setIsSending] = useState(false);
  const index = mapIndex === undefined || Number(mapIndex) < 0 ? undefined : mapIndex;
  const scope = { dag_id: dagId, run_id: runId, task_id: taskId, map_index: index };
  const { rows, total, error, isBusy, refresh } = useAgentTasks({ ...scope, ...filters, offset });

  // Agents may have ended, or been deleted, since the page was chosen.
  useEffect(() => {
    if (offset && !isBusy && offset >= total) setOffset(Math.floor(Math.max(0, total - 1) / PAGE_SIZE) * PAGE_SIZE);
  }, [offset, total, isBusy]);

  const change = (name, value) => {
    setFilters({ ...filters, [name]: value });
    setOffset(0);
  };
  const perform = async (row, action, more) => {
    setIsSending(true);
    setNotice("Sending…");
    try {
      setNotice((await server.act(row, action, more)).message);
    } catch (failure) {
      setNotice("");
      throw failure;
    } finally {
      setIsSending(false);
      refresh();
    }
  };
  const choose = (row, action) => {
    if (action === "message" || action === "stop") setDialog({ row, kind: action });
    else perform(row, action).catch((failure) => setNotice(failure.message));
  };
  const close = () => setDialog(null);

  return h(
    "section",
    { className: "at-page", "aria-label": "Agent tasks" },
    h(Filters, { filters, change }),
    h("p", { role: "status", className: "at-notice" }, notice),
    error && h("p", { role: "alert", className: "at-notice" }, error),
    h(Table, { rows, isBusy, isSending, onDetails: (row) => setDialog({ row, kind: "details" }), onAction: choose }),
    h(Pages, { offset, total, setOffset }),
    dialog?.kind === "details" && h(DetailsDialog, { ...dialog, load: server.show, onClose: close }),
    dialog?.kind === "message" &&
      h(MessageDialog, { ...dialog, send: (message) => perform(dialog.row, "message", { message }), onClose: close }),
    dialog?.kind === "stop" &&
      h(StopDialog, { ...dialog, send: () => perform(dialog.row, "stop"), onClose: close }),
  );
}

// Load the rows, and again every few seconds while the page can be seen.
function useAgentTasks(filters) {
  const [state, setState] = useState({ rows: [], total: 0, error: "", isBusy: true });
  const query = JSON.stringify(filters);
  const latest = useRef(query);
  latest.current = query;
  const refresh = useCallback(async () => {
    let found;
    try {
      const { agent_tasks: rows, total } = await server.list({ ...JSON.parse(query), limit: PAGE_SIZE });
      found = { rows, total, error: "" };
    } catch (failure) {
      found = { error: failure.message };
    }
    // The filters may have changed while the server was working.
    if (latest.current === query) setState((old) => ({ ...old, ...found, isBusy: false }));
  }, [query]);
  useEffect(() => {
    let timer;
    let isOver = false;
    const loop = async () => {
      if (!document.hidden) await refresh();
      if (!isOver) timer = setTimeout(loop, REFRESH_MS);
    };
    // A moment later, so that typing does not send a request for each letter.
    timer = setTimeout(loop, 200);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [refresh]);
  return { ...state, refresh };
}

function Filters({ filters, change }) {
  const select = (name, label, options) =>
    h(
      "select",
      { "aria-label": label, value: filters[name], onChange: (event) => change(name, event.target.value) },
      options.map(([value, text]) => h("option", { key: value, value }, text)),
    );
  return h(
    "form",
    { className: "at-filters", role: "search", onSubmit: (event) => event.preventDefault() },
    h("input", {
      type: "search",
      placeholder: "DAG, run, task, agent, connection",
      "aria-label": "Search",
      value: filters.text,
      maxLength: 200,
      onChange: (event) => change("text", event.target.value),
    }),
    select("state", "State of the task", [["", "any task state"], ...TASK_STATES.map((one) => [one, inWords(one)])]),
    select("agent_state", "State of the agent", [["", "any agent state"], ...STATES.map((one) => [one, inWords(one)])]),
    select("days", "Period", Object.entries(PERIODS)),
    h(
      "label",
      null,
      h("input", {
        type: "checkbox",
        checked: filters.active,
        onChange: (event) => change("active", event.target.checked),
      }),
      " active only",
    ),
  );
}

function Pages({ offset, total, setOffset }) {
  if (!total) return null;
  const last = Math.min(offset + PAGE_SIZE, total);
  const button = (name, to, isEnabled) => h("button", { disabled: !isEnabled, onClick: () => setOffset(to) }, name);
  return h(
    "nav",
    { className: "at-pages", "aria-label": "Pages" },
    button("Previous", Math.max(0, offset - PAGE_SIZE), offset > 0),
    h("span", null, `${offset + 1} to ${last} of ${total > 10000 ? "more than 10000" : total}`),
    button("Next", offset + PAGE_SIZE, last < total),
  );
}

// Airflow shows the tab of a task for a task group too, without telling which tasks are in it.
function Page(ids) {
  const { groupId } = globalThis.ReactRouterDOM?.useParams?.() ?? {};
  if (groupId) return h("p", { className: "at-page" }, "Open a task of this group to see its agent tasks.");
  return h(AgentTasks, ids);
}

globalThis.AirflowPlugin = Page;
