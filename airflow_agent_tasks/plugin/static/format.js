// Texts and addresses of an agent task.

export const STATES = ["queued", "running", "paused", "awaiting_input", "completed", "failed", "cancelled", "unknown"];
export const TASK_STATES = ["running", "deferred", "awaiting_input", "up_for_retry", "queued", "success", "failed", "skipped"];
export const ACTION_NAMES = { message: "Message", pause: "Pause", resume: "Resume", stop: "Stop" };

export const keyOf = (row) => [row.dag_id, row.run_id, row.task_id, row.map_index].join("\n");

export const inWords = (state) => state.replaceAll("_", " ");

const path = (...parts) => parts.map(encodeURIComponent).join("/");

// The paths of Airflow's own pages, below its <base>.
export const dagPath = (row) => path("dags", row.dag_id);
export const runPath = (row) => path("dags", row.dag_id, "runs", row.run_id);

function taskPath(row) {
  const task = path("dags", row.dag_id, "runs", row.run_id, "tasks", row.task_id);
  return row.map_index < 0 ? task : `${task}/mapped/${row.map_index}`;
}

export const logPath = (row) => `${taskPath(row)}?try_number=${row.try_number}`;
export const formPath = (row) => `${taskPath(row)}/required_actions`;

// Return how long ago a time was, given in seconds since 1970.
export function age(at, now) {
  if (!at) return "";
  const seconds = Math.max(0, Math.round(now / 1000 - at));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}
