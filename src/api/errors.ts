// The one error class and the one table of codes. docs/errors.md is generated from the table.
// Invariant: errors are told apart by `code`, never by `instanceof`; a message holds no secret and no path of the host
// that the caller did not name.

/** Whose fault it is. `caller`: change the request. `state`: not now. `node`: this machine. `corral`: a defect of ours. */
export type Fault = "caller" | "state" | "node" | "corral";

/** Whether trying again can help. `later`: the same call may pass. `never`: only a changed call can. */
export type Retry = "never" | "later";

export interface ErrorKind {
  /** HTTP status on our own wire. */
  readonly status: number;
  readonly fault: Fault;
  readonly retry: Retry;
  /** One line for docs/errors.md. */
  readonly meaning: string;
}

export const ERROR_KINDS = {
  request_invalid: {
    status: 400,
    fault: "caller",
    retry: "never",
    meaning: "The shape of a request or a command line is wrong; the message names the field.",
  },
  request_too_large: { status: 413, fault: "caller", retry: "never", meaning: "The body of a request is larger than its route takes." },
  request_timeout: { status: 408, fault: "caller", retry: "later", meaning: "A request did not come whole in time." },
  unauthorized: { status: 401, fault: "caller", retry: "never", meaning: "The request carries no key, or one that does not hold." },
  forbidden: { status: 403, fault: "caller", retry: "never", meaning: "The key does not reach that far; the message says what would." },
  route_not_found: { status: 404, fault: "caller", retry: "never", meaning: "The server has no such path, or not with this method." },
  port_unavailable: { status: 500, fault: "node", retry: "never", meaning: "The server cannot listen where it was told to." },
  tls_invalid: { status: 500, fault: "node", retry: "never", meaning: "The server's certificate or its key cannot be used." },
  server_unreachable: { status: 502, fault: "node", retry: "later", meaning: "No Corral server answers at the address given." },
  stream_cut: { status: 502, fault: "node", retry: "never", meaning: "A connection ended before what it carried was whole." },
  idempotency_conflict: {
    status: 409,
    fault: "caller",
    retry: "never",
    meaning: "The idempotency key was used for another request.",
  },
  policy_invalid: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "A policy holds an error; `details.problems` has line and column.",
  },
  policy_too_complex: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "Judging the policy takes the server longer, or more memory, than it gives to such a question.",
  },
  network_policy_invalid: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "A network policy holds a rule that cannot be; the message names the rule and what it lacks.",
  },
  secret_not_found: { status: 404, fault: "caller", retry: "never", meaning: "There is no such secret: it never was, or was deleted." },
  secret_state: {
    status: 409,
    fault: "state",
    retry: "never",
    meaning: "A secret of that name is there, or lies on another server, or was sealed with a key that is gone.",
  },
  preset_unknown: { status: 422, fault: "caller", retry: "never", meaning: "No preset or policy file has that name." },
  codebase_not_found: { status: 404, fault: "caller", retry: "never", meaning: "The directory or codebase does not exist." },
  codebase_state: {
    status: 409,
    fault: "state",
    retry: "never",
    meaning: "The codebase is in use, or not in the version that the call expected, or lies on another server.",
  },
  git_failed: {
    status: 422,
    fault: "caller",
    retry: "later",
    meaning: "A git repository could not be fetched; the message says what git said.",
  },
  template_not_found: { status: 404, fault: "caller", retry: "never", meaning: "There is no such template." },
  template_failed: {
    status: 500,
    fault: "node",
    retry: "never",
    meaning: "The root of a template could not be made; the message says why.",
  },
  template_state: {
    status: 409,
    fault: "state",
    retry: "later",
    meaning: "The template is not ready, has failed, is in use, or has a root already.",
  },
  upload_not_found: {
    status: 404,
    fault: "caller",
    retry: "never",
    meaning: "There is no such upload: it was committed, abandoned, or forgotten.",
  },
  codebase_unreadable: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "The codebase cannot be read, or holds what cannot be served.",
  },
  sandbox_not_found: {
    status: 404,
    fault: "caller",
    retry: "never",
    meaning: "There is no such sandbox: it never was, was destroyed, or expired.",
  },
  sandbox_lost: { status: 410, fault: "node", retry: "never", meaning: "The sandbox died without being asked to." },
  sandbox_state: { status: 409, fault: "state", retry: "later", meaning: "The sandbox is not in a state that allows this call." },
  port_closed: { status: 502, fault: "state", retry: "later", meaning: "Nothing listens on that port of the sandbox." },
  port_reply_invalid: { status: 502, fault: "caller", retry: "never", meaning: "What a port of a sandbox answered is no HTTP." },
  port_timeout: { status: 504, fault: "caller", retry: "later", meaning: "A port of a sandbox did not answer in time." },
  ticket_invalid: {
    status: 401,
    fault: "caller",
    retry: "never",
    meaning: "The ticket is unknown, was used, or is too old; ask for a new one.",
  },
  snapshot_state: {
    status: 409,
    fault: "state",
    retry: "never",
    meaning: "A sandbox stands on the snapshot, or it is still being taken, or lies on another server.",
  },
  snapshot_not_found: { status: 404, fault: "caller", retry: "never", meaning: "There is no such snapshot: it never was, or was deleted." },
  delta_not_found: { status: 404, fault: "caller", retry: "never", meaning: "There is no kept delta of that sandbox." },
  delta_malformed: {
    status: 422,
    fault: "node",
    retry: "never",
    meaning: "A delta cannot be read as what the kernel writes; it was forged or damaged.",
  },
  commit_refused: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "The policy or the safety rules refuse an entry of the delta; nothing was applied.",
  },
  commit_conflict: {
    status: 409,
    fault: "state",
    retry: "never",
    meaning: "The codebase changed since the sandbox was made; nothing was applied.",
  },
  commit_failed: {
    status: 500,
    fault: "node",
    retry: "later",
    meaning: "The codebase could not be changed (space, rights); nothing was applied or it is rolled forward at the next start.",
  },
  runtime_unavailable: {
    status: 503,
    fault: "node",
    retry: "never",
    meaning: "This machine lacks what the runtime needs; the message says what and how to mend it.",
  },
  engine_unavailable: { status: 503, fault: "node", retry: "never", meaning: "This machine or policy needs an engine that is not there." },
  guest_missing: { status: 500, fault: "node", retry: "never", meaning: "The guest program is not built." },
  guest_protocol: {
    status: 502,
    fault: "node",
    retry: "never",
    meaning: "A guest, a worker in it or the spawner broke the protocol; what broke it is ended: the sandbox, or the worker alone.",
  },
  spawner_lost: {
    status: 502,
    fault: "node",
    retry: "later",
    meaning: "The spawner died; every sandbox of it is gone, their deltas are kept.",
  },
  create_failed: { status: 500, fault: "node", retry: "later", meaning: "A sandbox could not be made; the message names the step." },
  exec_failed: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "A command could not be started for a reason that is not the command's own.",
  },
  file_not_found: {
    status: 404,
    fault: "caller",
    retry: "never",
    meaning: "Nothing stands at that path, or nothing that the sandbox can see.",
  },
  file_exists: { status: 409, fault: "caller", retry: "never", meaning: "Something stands at that path already." },
  file_denied: {
    status: 403,
    fault: "caller",
    retry: "never",
    meaning: "The policy, or the rights of the sandbox's user, refuse that path; links of `/proc` are refused to everybody.",
  },
  file_busy: { status: 409, fault: "state", retry: "later", meaning: "The kernel says that the file or directory is in use." },
  file_special: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "A FIFO, a device, a socket, or something else that has no content to read or write.",
  },
  file_unsupported: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "The file system refuses this operation: a move from one to another, a name or a file that is too long.",
  },
  not_a_directory: { status: 422, fault: "caller", retry: "never", meaning: "A name on the path, or the last one, is no directory." },
  is_a_directory: { status: 422, fault: "caller", retry: "never", meaning: "A file was expected and a directory stands there." },
  directory_not_empty: { status: 409, fault: "caller", retry: "never", meaning: "The directory holds entries; ask for `recursive`." },
  archive_invalid: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "An archive is damaged, or an entry of it is refused; the message names it. What came before it was unpacked.",
  },
  range_invalid: { status: 416, fault: "caller", retry: "never", meaning: "The range begins behind the end of the file." },
  worker_lost: {
    status: 502,
    fault: "node",
    retry: "later",
    meaning: "What serves files inside the sandbox ended, or did not answer; the next call starts it anew. The call may have been done.",
  },
  process_not_found: {
    status: 404,
    fault: "caller",
    retry: "never",
    meaning: "The sandbox has no such process: it never was, or it ended and was forgotten.",
  },
  process_ended: { status: 409, fault: "state", retry: "never", meaning: "The process has ended and takes nothing more." },
  shell_not_found: {
    status: 404,
    fault: "caller",
    retry: "never",
    meaning: "The sandbox has no such shell: it never was, or it was closed and forgotten.",
  },
  shell_closed: { status: 409, fault: "state", retry: "never", meaning: "The shell has ended and runs nothing more; open another one." },
  shell_unavailable: { status: 422, fault: "node", retry: "never", meaning: "The sandbox has no bash that a shell could be made of." },
  context_not_found: {
    status: 404,
    fault: "caller",
    retry: "never",
    meaning: "The sandbox has no such context: it never was, was deleted, or ended with the server or the processes that it lived in.",
  },
  context_unavailable: {
    status: 422,
    fault: "node",
    retry: "never",
    meaning: "The sandbox has no interpreter for that language, or it does not start; the message says which.",
  },
  egress_unavailable: {
    status: 503,
    fault: "node",
    retry: "later",
    meaning: "The egress proxy of this node does not run; sandboxes reach nothing outside meanwhile. The message says why.",
  },
  world_not_found: { status: 404, fault: "caller", retry: "never", meaning: "There is no such world: it never was, or was deleted." },
  session_not_found: { status: 404, fault: "caller", retry: "never", meaning: "There is no such session: it never was, or was removed." },
  turn_not_found: { status: 404, fault: "caller", retry: "never", meaning: "The session has no such turn or branch." },
  session_busy: {
    status: 409,
    fault: "state",
    retry: "later",
    meaning: "A turn of the session runs or waits, and the call takes no second one.",
  },
  head_moved: {
    status: 409,
    fault: "state",
    retry: "never",
    meaning: "The branch stands at another turn than the call expected; `details.head` names it.",
  },
  canon_invalid: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "A canon holds an error and is not used; `details.problems` has line and column.",
  },
  budget_exhausted: {
    status: 402,
    fault: "caller",
    retry: "never",
    meaning: "A budget has no room for the call; the message names its scope.",
  },
  price_unknown: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "A budget is set, and the model has no price to hold against it.",
  },
  prompt_too_large: {
    status: 422,
    fault: "caller",
    retry: "never",
    meaning: "What a prompt may not leave out does not fit the model; the message names the parts.",
  },
  model_unknown: { status: 422, fault: "caller", retry: "never", meaning: "No configured model has that name, or no route leads to one." },
  model_failed: {
    status: 502,
    fault: "node",
    retry: "later",
    meaning: "A model did not answer, or not to its end; the message says what its provider said.",
  },
  limit_reached: { status: 429, fault: "caller", retry: "later", meaning: "A limit of this owner or sandbox is reached." },
  rate_limited: {
    status: 429,
    fault: "caller",
    retry: "later",
    meaning: "Too many requests of one key, or of one address without a key, in a short time; `retryAfterMs` says when to ask again.",
  },
  overloaded: { status: 503, fault: "node", retry: "later", meaning: "The node is full, of whatever." },
  store_unavailable: {
    status: 503,
    fault: "node",
    retry: "later",
    meaning: "The database does not answer or cannot be used; the message says which.",
  },
  disk_full: {
    status: 507,
    fault: "node",
    retry: "later",
    meaning: "No room: the disk that holds the data directory is full, or a folder in memory.",
  },
  data_locked: { status: 409, fault: "state", retry: "later", meaning: "Another process owns the data directory." },
  data_unsafe: {
    status: 500,
    fault: "node",
    retry: "never",
    meaning: "The data directory can be changed by others or lies where it must not.",
  },
  canceled: { status: 499, fault: "caller", retry: "never", meaning: "The caller went away or asked to stop." },
  internal: { status: 500, fault: "corral", retry: "never", meaning: "A defect of Corral. Please report it." },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERROR_KINDS;

export interface ErrorBody {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** The only error that Corral throws on purpose. `message` says what failed, why, and what to do. */
export class CorralError extends Error {
  override readonly name = "CorralError";
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; details?: Readonly<Record<string, unknown>> } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details;
  }
}

/** The error's code, or `undefined` when it is not one of ours. Works across copies of this module. */
export function errorCode(error: unknown): ErrorCode | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { name, code } = error as { name?: unknown; code?: unknown };
  if (name !== "CorralError" || typeof code !== "string") return undefined;
  return code in ERROR_KINDS ? (code as ErrorCode) : undefined;
}
