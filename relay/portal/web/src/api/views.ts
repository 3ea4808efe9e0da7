// What the API answers with: the JSON contract of both doors, version 1. Times are milliseconds since
// the epoch, sizes are bytes.

import type { KeyClass, NodeRole, Role } from '../signed/intent.ts';

export interface Problem {
  type: string;
  status: number;
  title: string;
  detail: string;
  remedy: string | null;
}

export interface WaitingOn {
  code: string;
  subject: string;
  text: string;
  since: number;
  clears: 'itself' | 'person' | 'never';
  role: string | null;
  command: string | null;
  host: string | null;
  more: number;
}

export interface Finding {
  code: string;
  severity: 'warning' | 'error';
  subject: string;
  text: string;
  remedy: string;
}

export interface Head {
  index: number;
  hash: string;
  trust: string;
  log_time: number;
}

export interface SiteView {
  id: string;
  words: string;
  name: string;
  founded: boolean;
  trust: string;
  door: { node: string; host: string; agent: string };
  head: Head;
  voters: { node: string; host: string; raft_id: number; leader: boolean; connected: boolean }[];
  leader: string | null;
  term: number;
  may_fail: number;
  relays: { url: string; key: string; links: { node: string; host: string }[] }[];
  counts: { waiting: number; pool: number; attached: number; detaching: number };
  clusters: number;
  /** Doors that are older than this field leave it out. */
  agent_upgrade?: { version: string; state: 'rolling' | 'halted' | 'done'; done: number; nodes: number };
  waiting_on: WaitingOn[];
}

/** A package of the site's agents, as a relay hands it out. */
export interface PackageView {
  format: string;
  arch: string;
  version: string;
  path: string;
  file: string;
  size: number;
  sha256: string;
}

/** None at an agent's door. */
export interface PackagesView {
  url: string | null;
  packages: PackageView[];
  line: string | null;
}

export interface Facts {
  host: string;
  addresses: string[];
  cores: number;
  memory_bytes: number;
  disk_bytes: number;
  disk_free_bytes: number;
  os: string;
  kernel: string;
  arch: string;
  agent: string;
  zone: string;
}

export interface WorkView {
  stage: string;
  step: number;
  steps: number;
  title: string;
  state: 'checking' | 'applying' | 'verifying' | 'done' | 'failed';
  since: number;
  error: string | null;
}

export type NodeState = 'waiting' | 'pool' | 'attached' | 'detaching' | 'revoked';

export interface NodeView {
  id: string;
  name: string;
  words: string;
  fingerprint: string;
  state: NodeState;
  since: number;
  generation: number;
  knock: string | null;
  cluster: string | null;
  role: NodeRole | null;
  rehearsal: boolean;
  roles: string[];
  /** Let in by a join token or a browser key: no vote, no control plane. */
  probation?: boolean;
  labels: string[];
  facts: Facts | null;
  report_age_ms: number | null;
  load_milli: number | null;
  memory_used_bytes: number | null;
  /** As the last report said; what the facts said at its knock where no report did. */
  disk_bytes?: number | null;
  disk_free_bytes?: number | null;
  uptime_s?: number | null;
  work: WorkView | null;
  waiting_on: WaitingOn | null;
}

export type ClusterState = 'empty' | 'preflight' | 'initializing' | 'ready' | 'degraded' | 'upgrading' | 'deleting';

export interface MemberView {
  node: string;
  host: string;
  role: NodeRole;
  done: string;
  work: WorkView | null;
  unwell: string[];
  labels: string[];
  taints: string[];
  waiting_on: WaitingOn | null;
  /** What a control plane node does for itself; none for others, and of doors that do not know it. */
  upkeep?: UpkeepView | null;
}

export interface UpkeepView {
  certificate: string;
  ends: number;
  backups: BackupView[];
  trouble: string;
  remedy: string;
}

export interface BackupView {
  taken: number;
  digest: string;
  bytes: number;
  revision: number;
  asked: string | null;
}

export interface StageView {
  word: string;
  done: number;
  of: number;
  began: number | null;
  ended: number | null;
}

export interface ClusterView {
  name: string;
  state: ClusterState;
  since: number;
  generation: number;
  driver: string;
  rehearsal: boolean;
  version: string;
  bundle: string;
  members: MemberView[];
  endpoint: string | null;
  settings: { pods: string; services: string; endpoints: string[]; port: number } | null;
  findings: Finding[];
  stages: StageView[];
  waiting_on: WaitingOn | null;
}

export interface AdminView {
  admin: string;
  name: string;
  role: Role;
  generation: number;
  keys: { key: string; fingerprint: string; class: KeyClass; expires: number | null }[];
}

export interface BundleView {
  digest: string;
  name: string;
  version: string;
  size: number;
  publisher: string | null;
}

export type IntentState = 'held' | 'pending' | 'doing' | 'done' | 'rejected' | 'unknown';

export interface IntentView {
  digest: string;
  id: string;
  by: string;
  action: string;
  sentence: string;
  state: IntentState;
  index: number | null;
  generation: number | null;
  reason: string | null;
  detail: string | null;
  remedy: string | null;
  duplicate: boolean;
  at: number | null;
  waiting_on: WaitingOn | null;
  /** Whose word this is; missing from older doors: then that of whoever answers. */
  says?: 'site' | 'relay' | null;
  /** Relay: what a node of the site signed. */
  receipt?: string | null;
}

export interface PlanView {
  sentence: string;
  changes: string[];
  nodes: { node: string; host: string; role: NodeRole | null; first: boolean; zone: string; stages: { word: string; steps: string[] }[] }[];
  rehearsal: boolean;
  findings: Finding[];
  rejected: Problem | null;
  digest: string;
  head: Head;
}

export interface PreflightView {
  findings: Finding[];
  hosts: number;
  pairs: number;
  probes: number;
  ms: number;
}

export interface AlertView {
  rule: string;
  severity: string;
  subject: string;
  text: string;
  since: number;
  resolved: number | null;
  /** `host`, `kubernetes`, `add-on`, `qb`; missing from older doors. */
  layer?: string | null;
  remedy?: string | null;
}

export interface HistoryView {
  v: number;
  /** None for the sums of a site. */
  node: string | null;
  step_ms: number;
  /** `nodes`: how many were heard; missing from older doors. */
  samples: { at: number; nodes?: number; load_milli: number | null; memory_used_bytes: number | null; disk_used_bytes: number | null }[];
}

export interface AuditView {
  number: number;
  index: number;
  at: number;
  by: string;
  sentence: string;
  outcome: string;
  digest: string;
  head: string;
  record: string;
}

export interface AuditExport {
  v: number;
  site: string;
  charter: string;
  records: AuditView[];
  head: string;
}

export interface Event {
  seq: number;
  at: number;
  kind: string;
  subject: string;
  text: string;
}

export interface LoginChallenge {
  nonce: string;
  server_key: string;
  origins: string[];
}

export interface LoginView {
  token: string;
  admin: string;
  role: Role;
  key: string;
  idle_ms: number;
  max_ms: number;
}
