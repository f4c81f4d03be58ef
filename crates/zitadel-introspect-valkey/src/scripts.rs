//! The scripts: the engine runs each of them as one atomic step.

use redis::Script;

/// Makes an epoch where there is none, or where the entries are lost. `m` is then what is known of the log.
const EPOCH: &str = r"
local m = redis.call('HMGET', KEYS[2], 'epoch', 'end', 'tail', 'heartbeat')
if not m[1] or (m[2] ~= '0' and redis.call('EXISTS', KEYS[1]) == 0) then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'end', '0', 'tail', ARGV[1])
  m = {ARGV[1], '0', ARGV[1], false}
end
";

/// KEYS: log, meta. ARGV: fresh epoch, entry's id, sealed, how many to keep.
const APPEND: &str = r"
local n = redis.call('HINCRBY', KEYS[2], 'end', 1)
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], n .. '-0', 'p', m[3], 'i', ARGV[2], 'e', ARGV[3])
redis.call('HSET', KEYS[2], 'tail', ARGV[2])
return {m[1], n}
";

/// KEYS: log, meta. ARGV: fresh epoch, known epoch, known number, how many at most.
const READ: &str = r"
local entries = {}
if m[1] == ARGV[2] then
  entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[3] .. '-0', '+', 'COUNT', ARGV[4])
end
local time = redis.call('TIME')
return {m[1], m[2], m[3], m[4], time[1], time[2], entries}
";

/// KEYS: log, meta. ARGV: old epoch, fresh epoch.
const BEGIN_ANEW: &str = r"
if redis.call('HGET', KEYS[2], 'epoch') == ARGV[1] then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'epoch', ARGV[2], 'end', '0', 'tail', ARGV[2])
end
return 1
";

/// KEYS: lease. ARGV: instance, milliseconds; 0 resigns.
const LEAD: &str = r"
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then return false end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return redis.call('TIME')
";

/// KEYS: lease, log, meta. ARGV: instance, epoch, number, id of that entry, sealed.
const HEARTBEAT: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[3], 'epoch') ~= ARGV[2] then return 0 end
if ARGV[3] == '0' then
  if ARGV[4] ~= ARGV[2] then return 0 end
else
  local at = ARGV[3] .. '-0'
  local entry = redis.call('XRANGE', KEYS[2], at, at)[1]
  if not entry or entry[2][4] ~= ARGV[4] then return 0 end
end
redis.call('HSET', KEYS[3], 'heartbeat', ARGV[5])
return 1
";

pub(crate) struct Scripts {
    pub(crate) append: Script,
    pub(crate) read: Script,
    pub(crate) begin_anew: Script,
    pub(crate) lead: Script,
    pub(crate) heartbeat: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            append: Script::new(&format!("{EPOCH}{APPEND}")),
            read: Script::new(&format!("{EPOCH}{READ}")),
            begin_anew: Script::new(BEGIN_ANEW),
            lead: Script::new(LEAD),
            heartbeat: Script::new(HEARTBEAT),
        }
    }
}
