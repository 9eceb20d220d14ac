-- Shared by the scripts that write users' HASHes: the rule by which vectors of two models share one.
--
-- ARGV of each of them begins with what the writer knows of the live models (at most two: the one that serves,
-- and one that is staged or kept for rollback):
--   1  version of the model that serves
--   2  version of the second live model, '' where there is none
--   3  the greatest publication number that the writer has seen
--   4  seconds until `vec` and `short` expire, 0: never
--
-- A slot's model is *dead* for a writer where it is none of the two and its number is not greater than the
-- greatest seen. A model that became live since the writer last asked has a greater number: the writer never
-- touches its slot. A row goes, in this order:
--   1. where a slot holds the row's model, there, if (epoch, seq) is not smaller than the slot's;
--   2. else to an empty or dead slot;
--   3. else nowhere: the writer is behind, and its model is not live any more.
-- A row of the serving model always ends in the plain fields, and what stood there moves to the other slot.
-- Any other row leaves the plain fields alone while they hold a live model. That is a service to people who
-- read plain fields; Twintide's own reader takes the slot whose `model` is the serving one, wherever it is.
--
-- Why a live model never loses a slot: let X be live, since it was staged under number p. A writer that has
-- asked since then knows X as live; one that has not knows no number as great as p. Neither takes X for dead
-- once the slot has been written, or confirmed by a stale write, since p; and it is before X serves.

local serving, second, latest, short_ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

-- The fields of both slots, in the order of keys.FIELDS.
local PLAIN = {
  'model', 'publication', 'epoch', 'seq', 'ts', 'n', 'written_at', 'format', 'vec', 'long', 'short', 'history',
  'inputs',
}
local OTHER = {
  'other:model', 'other:publication', 'other:epoch', 'other:seq', 'other:ts', 'other:n', 'other:written_at',
  'other:format', 'other:vec', 'other:long', 'other:short', 'other:history', 'other:inputs',
}

-- Returns some fields of a user's HASH, beginning with 'model' and 'publication'; nil where the key is another
-- application's: no HASH, or one without a slot. Such a key is neither written nor deleted.
local function slot_fields(key, ...)
  local found = redis.pcall('HMGET', key, ...)
  if found.err then
    if string.find(found.err, 'WRONGTYPE', 1, true) then return nil end
    redis.call('HMGET', key, ...) -- raises what pcall found
  end
  local is_slot = found[1] and found[2]
  if not is_slot and redis.call('HLEN', key) > 0 and redis.call('HEXISTS', key, 'other:publication') == 0 then
    return nil
  end
  return found
end

local function is_dead(model, publication)
  return model ~= serving and model ~= second and (tonumber(publication) or 0) <= latest
end

-- Has the short vector of a slot (prefix '' or 'other:'), and what is mixed with it, expire.
local function expire(key, prefix)
  if short_ttl ~= '0' then
    redis.call('HEXPIRE', key, short_ttl, 'FIELDS', 2, prefix .. 'vec', prefix .. 'short')
  end
end

-- Writes a whole slot (names PLAIN or OTHER); a value of false deletes its field.
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

-- Whether (epoch, seq) comes before the stored pair; never, where nothing is stored.
local function is_older(epoch, seq, than_epoch, than_seq)
  epoch, seq = tonumber(epoch or nil), tonumber(seq or nil)
  than_epoch, than_seq = tonumber(than_epoch or nil), tonumber(than_seq or nil)
  if not than_epoch or not than_seq then return false end
  return epoch < than_epoch or (epoch == than_epoch and seq < than_seq)
end
