"""The rule by which vectors of two models share a user's HASH, as scripts that Redis runs.

The writer says with each call which models it knows to be live (at most two: the serving one, and one that
is staged or kept for rollback) and the latest publication number it has seen. A slot's model is *dead* for
this writer where it is none of the two and its number is not greater than the latest: what it does not know
because it has not looked for a while has a greater number, and it never touches that. A row goes, in this
order:

1. where a slot holds the row's model, there, if (epoch, seq) is not smaller than the slot's;
2. else to an empty or dead slot;
3. else nowhere: the writer is behind, and its model is not live any more.

A row of the serving model always ends in the plain fields, and what stood there moves to the other slot; any
other row leaves the plain fields alone while they hold a live model. That is a service to people who read
plain fields; Twintide's own reader takes the slot whose `model` is the serving one, wherever it is.

Why a live model never loses a slot: let X be live, since it was staged under number p. A writer that has
looked since then knows X as live; one that has not knows no number as great as p. Neither takes X for dead
once the slot has been written, or confirmed by a stale write, since p; and it is before X serves.
"""

from stream.store.keys import FIELDS, OTHER

_OTHER_FIELDS = tuple(OTHER + name for name in FIELDS)


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _pairs(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}', ARGV[base + {place}]" for place, name in enumerate(names, start=1))


_HEAD = """
local serving, second, latest, short_ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local PLAIN, OTHER = {plain}, {other}
local function is_dead(model, publication)
  return model ~= serving and model ~= second and (tonumber(publication) or 0) <= latest
end
local function expire(key, prefix)
  if short_ttl ~= '0' then
    redis.call('HEXPIRE', key, short_ttl, 'FIELDS', 2, prefix .. 'vec', prefix .. 'short')
  end
end
local function set(key, names, values)
  local present, absent = {}, {}
  for place, value in ipairs(values) do
    if value then
      present[#present + 1], present[#present + 2] = names[place], value
    else
      absent[#absent + 1] = names[place]
    end
  end
  if #present > 0 then redis.call('HSET', key, unpack(present)) end
  if #absent > 0 then redis.call('HDEL', key, unpack(absent)) end
  expire(key, names == OTHER and 'other:' or '')
end
local function is_older(epoch, seq, than_epoch, than_seq)
  epoch, seq = tonumber(epoch or nil), tonumber(seq or nil)
  than_epoch, than_seq = tonumber(than_epoch or nil), tonumber(than_seq or nil)
  if not than_epoch or not than_seq then return false end
  return epoch < than_epoch or (epoch == than_epoch and seq < than_seq)
end
""".replace("{plain}", "{" + _list(FIELDS) + "}").replace("{other}", "{" + _list(_OTHER_FIELDS) + "}")

# ARGV: the models, seconds until a short vector expires (0: never); force, ttl of the key in seconds; then
# the fields of each of KEYS in the order of layout.FIELDS.
UPSERT = (
    _HEAD
    + """
local force, ttl = ARGV[5] == '1', tonumber(ARGV[6])
local written = 0
for i, key in ipairs(KEYS) do
  local base = 6 + (i - 1) * #PLAIN
  local model = ARGV[base + 1]
  local plain = redis.call('HMGET', key, 'model', 'publication', 'epoch', 'seq')
  local mine, prefix = plain, ''
  if plain[1] and plain[1] ~= model then
    local other = redis.call('HMGET', key, {other_head})
    local is_plain_dead = is_dead(plain[1], plain[2])
    if other[1] == model then
      mine, prefix = other, 'other:'
    elseif is_plain_dead then
      mine = {}
    elseif not other[1] or is_dead(other[1], other[2]) then
      mine, prefix = {}, 'other:'
    else
      prefix = nil
    end
    if mine[2] and tonumber(mine[2]) > tonumber(ARGV[base + 2]) then ARGV[base + 2] = mine[2] end
    local is_stale = not force and is_older(ARGV[base + 3], ARGV[base + 4], mine[3], mine[4])
    if prefix and model == serving and not is_stale then
      if prefix == 'other:' and not is_plain_dead then
        set(key, OTHER, redis.call('HMGET', key, unpack(PLAIN)))
      elseif mine[1] then
        redis.call('HDEL', key, unpack(OTHER))
      end
      mine, prefix = {}, ''
    end
  end
  -- A slot keeps the greatest number that its model was known under.
  if mine[2] and tonumber(mine[2]) > tonumber(ARGV[base + 2]) then ARGV[base + 2] = mine[2] end
  if prefix and not force and is_older(ARGV[base + 3], ARGV[base + 4], mine[3], mine[4]) then
    if tonumber(ARGV[base + 2]) > (tonumber(mine[2] or nil) or 0) then
      redis.call('HSET', key, prefix .. 'publication', ARGV[base + 2])
    end
  elseif prefix then
    if prefix == '' then
      redis.call('HSET', key, {plain_pairs})
    else
      redis.call('HSET', key, {other_pairs})
    end
    expire(key, prefix)
    if ttl > 0 then redis.call('EXPIRE', key, ttl) end
    written = written + 1
  end
end
return written
""".replace("{other_head}", _list(_OTHER_FIELDS[:4]))
    .replace("{plain_pairs}", _pairs(FIELDS))
    .replace("{other_pairs}", _pairs(_OTHER_FIELDS))
)

# ARGV: the same two. Deletes dead slots, and puts the serving model into the plain fields. Returns how many
# of KEYS it changed.
CLEAN_UP = (
    _HEAD
    + """
local changed = 0
for _, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, 'model', 'publication', {other_head})
  local plain, other = found[1], found[3]
  local is_plain_dead = plain and is_dead(plain, found[2])
  local is_other_dead = other and is_dead(other, found[4])
  if is_plain_dead and (not other or is_other_dead) then
    redis.call('DEL', key)
  elseif is_plain_dead then
    set(key, PLAIN, redis.call('HMGET', key, unpack(OTHER)))
    redis.call('HDEL', key, unpack(OTHER))
  elseif is_other_dead then
    redis.call('HDEL', key, unpack(OTHER))
  elseif other and other == serving then
    local plain_values = redis.call('HMGET', key, unpack(PLAIN))
    set(key, PLAIN, redis.call('HMGET', key, unpack(OTHER)))
    set(key, OTHER, plain_values)
  else
    changed = changed - 1
  end
  changed = changed + 1
end
return changed
""".replace("{other_head}", _list(_OTHER_FIELDS[:2]))
)

# ARGV: the same two (unused); epoch; then for each of KEYS the source offset up to which to forget. A newer
# vector stays. Returns how many of KEYS are gone.
FORGET = (
    _HEAD
    + """
local deleted = 0
for i, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, 'epoch', 'seq', 'other:epoch', 'other:seq')
  local has_newer_plain = is_older(ARGV[5], ARGV[5 + i], found[1], found[2])
  local has_newer_other = is_older(ARGV[5], ARGV[5 + i], found[3], found[4])
  if not has_newer_plain and not has_newer_other then
    deleted = deleted + redis.call('DEL', key)
  elseif not has_newer_other then
    redis.call('HDEL', key, unpack(OTHER))
  elseif not has_newer_plain then
    set(key, PLAIN, redis.call('HMGET', key, unpack(OTHER)))
    redis.call('HDEL', key, unpack(OTHER))
  end
end
return deleted
"""
)
