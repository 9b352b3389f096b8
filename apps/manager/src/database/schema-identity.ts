import type {
  ApiToken,
  MachineLabels,
  MachineRole,
  Thumbprint,
  TokenScope,
  UserRole,
} from "@farpool/contract";
import type { Generated, JSONColumnType } from "kysely";
import type { Instant, InstantByDefault } from "./schema.ts";

/** Who people and machines are, and how they show it. */
export interface IdentityTables {
  pool_identity: PoolIdentityTable;
  pool_authorities: PoolAuthoritiesTable;
  grant_keys: GrantKeysTable;
  clients: ClientsTable;
  users: UsersTable;
  join_tokens: JoinTokensTable;
  machines: MachinesTable;
  account_mappings: AccountMappingsTable;
  sign_in_codes: SignInCodesTable;
  oidc_settings: OidcSettingsTable;
  oidc_flows: OidcFlowsTable;
  api_tokens: ApiTokensTable;
  attempts: AttemptsTable;
}

/** One row, made by the first manager. */
interface PoolIdentityTable {
  only_row: Generated<boolean>;
  pool_id: string;
  created_at: InstantByDefault;
}

/** The newest signs for machines, the newest that is presented for managers and workers; all that are not dropped are trusted. */
export interface PoolAuthoritiesTable {
  id: Generated<number>;
  certificate: string;
  /** Null: dropped, it signs nothing any more. */
  private_key: string | null;
  created_at: Instant;
  /** From when on managers and workers show certificates of it. */
  presented_at: Instant | null;
  dropped_at: Instant | null;
}

interface GrantKeysTable {
  thumbprint: Thumbprint;
  public_x: string;
  private_key: string;
  created_at: InstantByDefault;
}

interface ClientsTable {
  thumbprint: Thumbprint;
  public_x: string;
  /** Host and account, as the client itself reports them. */
  name: string;
  account: string;
  first_seen_at: InstantByDefault;
  last_seen_at: InstantByDefault;
  revoked_at: Instant | null;
  revoked_reason: string | null;
}

export interface UsersTable {
  id: string;
  name: string;
  role: UserRole;
  /** PHC string of argon2id. */
  password_hash: string | null;
  created_at: InstantByDefault;
  last_sign_in_at: Instant | null;
  disabled_at: Instant | null;
}

export interface JoinTokensTable {
  id: string;
  secret_hash: string;
  role: MachineRole;
  uses: number;
  uses_left: number;
  created_by: string;
  created_at: InstantByDefault;
  expires_at: Instant;
  revoked_at: Instant | null;
}

export interface MachinesTable {
  /** A server's is its server id. */
  id: string;
  role: MachineRole;
  name: string;
  labels: JSONColumnType<MachineLabels>;
  thumbprint: Thumbprint;
  public_x: string;
  join_token_id: string | null;
  joined_at: Instant;
  last_seen_at: Instant;
  certificates: Generated<number>;
  /** Of its newest certificate, and of the one before. */
  serial: string;
  previous_serial: string | null;
  /** Null: nobody has shown the newest certificate yet, its answer may have been lost. */
  serial_used_at: Instant | null;
  certificate_expires_at: Instant;
  /** Which authority has signed its newest certificate. */
  authority_id: number | null;
  revoked_at: Instant | null;
  revoked_reason: string | null;
}

interface AccountMappingsTable {
  client_key: Thumbprint;
  account: string;
  user_id: string;
}

interface SignInCodesTable {
  secret_hash: string;
  user_id: string;
  created_by: string;
  expires_at: Instant;
  used_at: Instant | null;
}

/** One row, or none. */
interface OidcSettingsTable {
  only_row: Generated<boolean>;
  issuer: string;
  client_id: string;
  client_secret: string | null;
  user_claim: string;
  /** Of which domain addresses must be, where they name the user. */
  email_domain: string | null;
  creates_users: boolean;
}

/** Sign-ins at the identity provider that are under way. */
interface OidcFlowsTable {
  secret_hash: string;
  device_code: string;
  interval_s: number;
  /** When the provider may be asked again. */
  next_at: InstantByDefault;
  expires_at: Instant;
}

interface ApiTokensTable {
  id: string;
  secret_hash: string;
  user_id: string;
  name: string;
  kind: ApiToken["kind"];
  scopes: JSONColumnType<TokenScope[]>;
  created_at: InstantByDefault;
  expires_at: Instant;
  last_used_at: Instant | null;
  revoked_at: Instant | null;
}

/** Failed attempts to sign in or to join, by who tried. */
interface AttemptsTable {
  subject: string;
  failures: number;
  ends_at: Instant;
}
