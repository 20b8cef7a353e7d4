// The requests to the plugin in Airflow's API server. The browser sends Airflow's session cookie along.

// Airflow's <base> has the path prefix, if it runs below one.
const PAGE = new URL("agent-tasks/page/", document.baseURI);

async function send(path, options) {
  let response;
  try {
    response = await fetch(new URL(path, PAGE), { credentials: "same-origin", ...options });
  } catch {
    throw new Error("The API server did not respond. Check your network.");
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  if (response.status === 401) throw new Error("Your session has ended. Reload the page to log in.");
  const detail = typeof body.detail === "string" ? body.detail : "";
  throw new Error(detail || `The API server responded with ${response.status}.`);
}

// Return a page of agent tasks as {agent_tasks, total}; empty filters are left out.
export function list(filters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(filters)) {
    if (value !== "" && value !== undefined && value !== false) query.append(name, value);
  }
  return send(`agent-tasks?${query}`);
}

function post(path, row, more) {
  const { dag_id, run_id, task_id, map_index, agent_task_id } = row;
  const body = JSON.stringify({ dag_id, run_id, task_id, map_index, agent_task_id, ...more });
  return send(path, { method: "POST", headers: { "content-type": "application/json" }, body });
}

// Return an agent task as its service describes it now.
export const show = (row) => post("agent-task", row);

// Do "message", "pause", "resume" or "stop", and return the agent task with a sentence about what happened.
export const act = (row, action, more) => post(`agent-task/${action}`, row, more);
