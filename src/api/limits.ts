// Every bound that a user can meet, by name. Units stand last in each name. A number written elsewhere is a defect.

/** Memory of a sandbox when nothing else is said, bytes. */
export const DEFAULT_MEMORY_BYTES = 4 * 1024 ** 3;
/** Smallest memory limit that still starts the guest and a shell, bytes. */
export const MIN_MEMORY_BYTES = 16 * 1024 ** 2;
/** Processes and threads of a sandbox together. */
export const DEFAULT_PIDS = 4096;
/** Hard RLIMIT_NOFILE of a command. */
export const DEFAULT_OPEN_FILES = 65_536;
/** Bytes that the delta of a sandbox may hold. */
export const DEFAULT_DISK_BYTES = 10 * 1024 ** 3;
/** Entries that the delta of a sandbox may hold. */
export const DEFAULT_INODES = 1_000_000;
/** Output kept of one command when the caller collects it, bytes of stdout and stderr together. */
export const DEFAULT_OUTPUT_BYTES = 16 * 1024 ** 2;
/** Time between SIGINT and SIGTERM, and between SIGTERM and SIGKILL, ms. */
export const KILL_GRACE_MS = 2_000;
/** One frame between server, spawner and guest, bytes of payload. */
export const MAX_FRAME_BYTES = 1024 * 1024;
/** Bytes of one output stream that may be under way without the reader's credit. */
export const STREAM_WINDOW_BYTES = 1024 * 1024;
/** Bytes of stdin that may be under way without the guest's credit. */
export const STDIN_WINDOW_BYTES = 256 * 1024;
/** Connections that one guest accepts at once. */
export const MAX_GUEST_CONNECTIONS = 8;
/** Commands that one sandbox runs at once. */
export const MAX_EXECS = 1_024;
/** Processes and shells that one sandbox holds, running or ended; the oldest ended one makes room. The guest's number too. */
export const MAX_KEPT_COMMANDS = 64;
/** Output of one process that can still be read, bytes of stdout and stderr together. */
export const PROCESS_OUTPUT_BYTES = 1024 * 1024;
/** Processes and shells of one sandbox that are remembered after their end. */
export const MAX_ENDED_COMMANDS = 32;
/** How long they are remembered, ms. */
export const ENDED_COMMAND_MS = 10 * 60 * 1000;
/** Longest time that one call waits for the end of a process, ms. */
export const MAX_WAIT_MS = 60_000;
/** Bytes of stdin that wait for one process beyond what it and the guest hold. */
export const MAX_WAITING_STDIN_BYTES = 1024 * 1024;
/** Bytes of one command for a shell. */
export const MAX_SHELL_COMMAND_BYTES = 2 * 1024 * 1024;
/** Body of a request that runs a command in a shell, with what it reads from stdin, bytes. */
export const MAX_SHELL_BODY_BYTES = 8 * 1024 * 1024;
/** Commands that wait for their turn in one shell. */
export const MAX_SHELL_QUEUE = 64;
/** How long a shell may take to be there, ms. */
export const SHELL_START_MS = 20_000;
/** Contexts of one sandbox, and calls of code without one that are under way. */
export const MAX_CONTEXTS = 64;
/** Calls that wait for their turn in one context. */
export const MAX_CONTEXT_QUEUE = 64;
/** How long an interpreter may take to be there, ms. */
export const CONTEXT_START_MS = 30_000;
/** How long what interpreters are forked from waits for the next one, ms. */
export const FORKER_IDLE_MS = 5 * 60_000;
/** Time between the interruption of code and the end of its interpreter, ms. */
export const INTERRUPT_GRACE_MS = 1_000;
/** Code and input of one call, bytes. */
export const MAX_CODE_BYTES = 4 * 1024 ** 2;
/** Body of a request that runs code, bytes. */
export const MAX_CODE_BODY_BYTES = 16 * 1024 ** 2;
/** Results of one call, and one of them, bytes. */
export const MAX_CODE_RESULT_BYTES = 16 * 1024 ** 2;
export const MAX_CODE_MESSAGE_BYTES = 16 * 1024 ** 2;
/** What may be written to a control channel during one call that no driver wrote, bytes. */
export const MAX_CODE_STRAY_BYTES = 16 * 1024 ** 2;
/** Answers of code that a context, or all code without one, keeps to give again, and bytes of one. */
export const MAX_CACHED_ANSWERS = 64;
export const MAX_CACHED_ANSWER_BYTES = 256 * 1024;
/** Objects and lists in each other, of a JSON type of a result. */
export const MAX_JSON_DEPTH = 128;
/** MIME types of one result. */
export const MAX_MIME_TYPES = 32;
/** Each text of an error. */
export const MAX_CODE_ERROR_CHARACTERS = 128 * 1024;
/** Rules of one policy. */
export const MAX_RULES = 100_000;
/** Bytes of one pattern. */
export const MAX_PATTERN_BYTES = 4_096;
/** Bytes of a policy written as YAML or JSON: the reader that gives places slows down faster than the text grows. Lines may be longer. */
export const MAX_POLICY_DOCUMENT_BYTES = 1024 ** 2;
/** Bytes of a policy file, and of all patterns of a policy together. */
export const MAX_POLICY_BYTES = 4 * 1024 ** 2;
/** Text of a policy whose problems a server is asked for, bytes. */
export const MAX_POLICY_TEXT_BYTES = 256 * 1024;
/** Problems of one policy that a server tells; counts tell of all. */
export const MAX_TOLD_PROBLEMS = 1_000;
/** Outranked rules of one path that a server tells. */
export const MAX_TOLD_RULES = 100;
/** How long a server judges a policy that it is asked about, ms. */
export const POLICY_ANSWER_MS = 2_000;
/** What it may take for that, MiB. */
export const POLICY_THREAD_MIB = 256;
/** How long the thread that judges policies waits for the next question before it ends, ms. */
export const POLICY_THREAD_IDLE_MS = 30_000;
/** Questions about policies that wait at once, one of each owner. */
export const MAX_POLICY_QUESTIONS = 64;
/** How long the delta of a run that was cut off is kept, ms. */
export const CUT_OFF_DELTA_MS = 24 * 60 * 60 * 1000;
/** How long a key that held is believed without asking the store, ms. */
export const KEY_MEMORY_MS = 500;
/** Keys that are remembered at once. */
export const KEY_MEMORY = 10_000;
/** How often the keys of calls under way are asked for again, ms. */
export const KEY_CHECK_MS = 200;
/** Readers of one owner that follow events at once. */
export const MAX_FOLLOWERS = 32;
/** How often events that another server wrote are looked for, ms. */
export const EVENT_POLL_MS = 1_000;
/** How long a stream of events may be silent, ms. */
export const EVENT_BEAT_MS = 15_000;
/** How long a reader of events may take nothing before it is let go, ms. */
export const EVENT_STALL_MS = 30_000;
/** How long events are kept, ms. */
export const EVENT_KEEP_MS = 7 * 24 * 60 * 60 * 1000;
/** How long a row of the audit log waits for others, ms: what a killed server may lose. */
export const AUDIT_WRITE_MS = 50;
/** Rows of the audit log that wait while the store takes none; then calls that change something are refused. */
export const AUDIT_QUEUE = 10_000;
/** How long the audit log is kept, ms. */
export const AUDIT_KEEP_MS = 90 * 24 * 60 * 60 * 1000;
/** Sandboxes of one batch. */
export const MAX_BATCH = 100;
/** Entries of one list of changes that are told; counts tell of all. */
export const MAX_TOLD_CHANGES = 10_000;
/** Deltas of one owner that are read at once. */
export const MAX_DELTA_READS = 4;
/** How long the sandboxes of a server that was killed wait for the next one, ms. */
export const SUCCESSOR_WAIT_MS = 30_000;
/** Items of one page of a list. */
export const MAX_PAGE_ITEMS = 100;
/** How long the key of a create is remembered, ms. */
export const IDEMPOTENCY_MS = 24 * 60 * 60 * 1000;
/** How often keys of creates and events that are too old are swept, ms: they hold nothing but room. */
export const OLD_ROWS_SWEEP_MS = 60 * 60 * 1000;
/** How long a query waits for another process's lock on the SQLite file, ms. */
export const STORE_BUSY_MS = 5_000;
/** Page cache of SQLite, KiB. */
export const STORE_SQLITE_CACHE_KIB = 16_384;
/** Connections to PostgreSQL that are kept open. */
export const STORE_POOL_MIN = 2;
/** Connections to PostgreSQL at most. */
export const STORE_POOL_MAX = 10;
/** How long a query waits for a connection, ms. */
export const STORE_POOL_ACQUIRE_MS = 5_000;
/** Age at which a connection is replaced, ms. */
export const STORE_POOL_RECYCLE_MS = 60 * 60 * 1000;
/** Body of one request in JSON, bytes. */
export const MAX_BODY_BYTES = 1024 ** 2;
/** Open connections of the server; more are closed at once. */
export const HTTP_CONNECTIONS = 16_384;
/** Headers of one request, bytes. */
export const HTTP_HEADERS_BYTES = 16 * 1024;
/** Until the headers of a request are whole, ms. */
export const HTTP_HEADERS_MS = 10_000;
/** Until a request is whole, ms. */
export const HTTP_REQUEST_MS = 5 * 60 * 1000;
/** How long a connection may stay open between requests, ms. */
export const HTTP_IDLE_MS = 60_000;
/** Requests of one key in `TOKEN_WINDOW_MS`. */
export const TOKEN_REQUESTS = 20_000;
export const TOKEN_WINDOW_MS = 10_000;
/** Requests of one address in `ADDRESS_WINDOW_MS` that carry no key that holds. */
export const ADDRESS_REQUESTS = 200;
export const ADDRESS_WINDOW_MS = 10_000;
/** How long a one-time ticket may wait to be used, ms. */
export const TICKET_MS = 30_000;
/** Tickets of one owner that were not used yet. */
export const MAX_TICKETS_PER_OWNER = 100;
/** Input of a terminal that its program has not read yet, bytes; then its client is no longer read. */
export const TERMINAL_INPUT_BYTES = 256 * 1024;
/** Messages of a terminal's client that are not done with; then no more is read of it. */
export const TERMINAL_INPUT_MESSAGES = 256;
/** One message of a terminal's client, bytes. */
export const TERMINAL_MESSAGE_BYTES = 256 * 1024;
/** How often a terminal's client is asked whether it is there; one silence and it is let go, ms. */
export const TERMINAL_PING_MS = 30_000;
/** How long WebSockets may take to say goodbye when the server ends, ms. */
export const UPGRADE_GOODBYE_MS = 1_000;
/** How long a visit of a port lasts, ms. */
export const VISIT_MS = 12 * 60 * 60 * 1000;
/** Visits that one server knows; the oldest goes first. */
export const MAX_VISITS = 10_000;
/** Ports of a sandbox that can be made public. */
export const MAX_PUBLIC_PORTS = 64;
/** Connections to the ports of one sandbox at once. */
export const PROXY_CONNECTIONS = 256;
/** How long a connection to a port may be silent, ms. */
export const PROXY_IDLE_MS = 5 * 60 * 1000;
/** Bytes of one connection to a port that wait for a slow reader, in each direction. */
export const PORT_BUFFER_BYTES = 64 * 1024;
/** Living sandboxes of one owner. */
export const MAX_SANDBOXES_PER_OWNER = 1_000;
/** Life of a sandbox when nothing else is said, ms. */
export const DEFAULT_SANDBOX_MS = 60 * 60 * 1000;
/** Longest life that can be asked for at once, ms; it can be extended again. */
export const MAX_SANDBOX_MS = 30 * 24 * 60 * 60 * 1000;
/** Snapshots that a delta stands on, one on the other. */
export const MAX_LAYERS = 16;
/** Snapshots of one owner. */
export const MAX_SNAPSHOTS_PER_OWNER = 1_000;
/** When the snapshots of one owner hold so much, no further one is taken, bytes. */
export const MAX_SNAPSHOT_BYTES_PER_OWNER = 64 * 1024 ** 3;
/** How long a paused sandbox is kept, ms, unless it never ends by itself. */
export const MAX_PAUSED_MS = 30 * 24 * 60 * 60 * 1000;
/** Sandboxes of one node that are paused with their processes. Beyond it the oldest keep their delta alone. */
export const MAX_FROZEN_SANDBOXES = 64;
/** How long a paused sandbox keeps its processes, ms. */
export const MAX_FROZEN_MS = 60 * 60 * 1000;
/** Share of the node's memory that is free at least, or the processes of paused sandboxes end, the oldest first. */
export const MIN_FREE_MEMORY_SHARE = 0.1;
/** How often the server looks for sandboxes whose end has come, ms. */
export const EXPIRY_SWEEP_MS = 500;
/** How long requests under way may take when the server is asked to end, ms. */
export const DRAIN_MS = 10_000;
/** Port of the server when nothing else is said. */
export const DEFAULT_PORT = 4700;
/** Codebases of one owner. */
export const MAX_CODEBASES_PER_OWNER = 1_000;
/** Content of all codebases of one owner, bytes; equal files count once. */
export const MAX_CODEBASE_BYTES_PER_OWNER = 64 * 1024 ** 3;
/** Files, links and directories of one version of a codebase. */
export const MAX_CODEBASE_ENTRIES = 500_000;
/** Versions of a codebase that are remembered beside those that a sandbox stands on. */
export const MAX_CODEBASE_VERSIONS = 100;
/** Secrets of one owner on one node. */
export const MAX_SECRETS_PER_OWNER = 100;
/** Templates of one owner. */
export const MAX_TEMPLATES_PER_OWNER = 100;
/** Entries of one page of a listing of a codebase. */
export const MAX_ENTRIES_PAGE = 10_000;
/** Uploads of one owner that are under way. */
export const MAX_UPLOADS_PER_OWNER = 32;
/** The list of an upload's entries, bytes of JSON. */
export const MAX_UPLOAD_LIST_BYTES = 128 * 1024 ** 2;
/** How long an upload that nobody continues is kept, ms. */
export const UPLOAD_MS = 24 * 60 * 60 * 1000;
/** Bytes of a path in a sandbox. */
export const MAX_PATH_BYTES = 4_095;
/** Entries of one page of a directory's listing. */
export const MAX_LISTED_FILES = 1_000;
/** Body of one upload, bytes: of a file, and of an archive. */
export const MAX_UPLOAD_BYTES = 64 * 1024 ** 3;
/** Entries of one archive. */
export const MAX_ARCHIVE_ENTRIES = 1_000_000;
/** Bytes that travel to or from a file in one request inside. */
export const FILE_CHUNK_BYTES = 256 * 1024;
/** Calls of the files of one sandbox at once; more are refused. */
export const MAX_FILE_CALLS = 1_024;
/** Files of one sandbox that are open for reading or writing in pieces; more wait their turn. */
export const MAX_OPEN_FILES = 48;
/** Watches of one sandbox at once: each is a process in it. */
export const MAX_WATCHES = 16;
/** How long a listener of a watch over HTTP may take nothing before it is let go, ms. */
export const WATCH_STALL_MS = 5 * 60_000;
/** Events of one watch that wait for a slow reader; then some are told as lost. */
export const MAX_WAITING_EVENTS = 10_000;
/** How long the worker of a sandbox's files waits for the next call before it ends, ms. */
export const FILE_WORKER_IDLE_MS = 30_000;
/** How long one of its answers may take, ms. */
export const FILE_WORKER_ANSWER_MS = 60_000;
/** Metadata pairs of one file, and bytes of a value. */
export const MAX_FILE_METADATA = 64;
export const MAX_FILE_METADATA_BYTES = 4_096;

/** Sandboxes that a server starts ahead: of each template, of all together, and how long one that nobody asks for keeps some, ms. */
export const POOL_PER_TEMPLATE = 2;
export const POOL_MAX = 16;
export const POOL_IDLE_MS = 600_000;

/** Of git repositories that become codebases. */
export const GIT_MAX_BYTES = 1024 ** 3;
export const GIT_TIMEOUT_MS = 120_000;
export const MAX_GIT_FETCHES = 2;

/** Rules of one network policy, presets unfolded; ports, methods, paths, secrets of one rule, and ranges that an open one leaves out. */
export const MAX_NETWORK_RULES = 256;
export const MAX_NETWORK_ITEMS = 64;
/** One path of a rule, bytes. */
export const MAX_NETWORK_PATH_BYTES = 1_024;
/** Longest span of a rule's rate, ms. */
export const MAX_NETWORK_RATE_MS = 24 * 60 * 60 * 1000;
/** What a sandbox may carry through the egress proxy by its memory, bytes of both directions in a second; beyond it is slowed. */
export const EGRESS_RATES: readonly { readonly upToBytes: number; readonly bytesPerSecond: number }[] = [
  { upToBytes: 1024 ** 3, bytesPerSecond: 10_000_000 },
  { upToBytes: 4 * 1024 ** 3, bytesPerSecond: 50_000_000 },
];
export const EGRESS_FASTEST = { bytesPerSecond: 100_000_000 };
/** One text of a session or a canon: an input, a reply, a receipt, bytes. */
export const LOOM_MAX_BLOB_BYTES = 32 * 1024 ** 2;

/** Calls of one MCP session that run at once. */
export const MAX_MCP_CALLS = 64;
/** Life of an MCP session's sandbox after its last call, and of a session over HTTP after its last request. */
export const MCP_IDLE_MS = 30 * 60 * 1000;
/** Sessions over HTTP: of one key, and of all. */
export const MAX_MCP_SESSIONS_OF_KEY = 32;
export const MAX_MCP_SESSIONS = 1_000;
/** One message of an MCP client. */
export const MAX_MCP_BODY_BYTES = 4 * 1024 ** 2;
/** Of a program's output, or of a file, in one answer of a tool: what a model can read, with room to spare. */
export const MCP_TEXT_BYTES = 256 * 1024;
/** An image in one answer of a tool. */
export const MCP_IMAGE_BYTES = 4 * 1024 ** 2;
