-- Deletes what was made of events up to an offset; a slot with newer ones stays.
--
-- KEYS   the users' HASHes
-- ARGV   1-4 as in slots.lua, of which 4 alone counts; 5 epoch of the source topic; then, for each of KEYS, the
--        source offset up to which to forget
-- Returns how many of KEYS are gone.
-- include slots.lua

local deleted = 0
for i, key in ipairs(KEYS) do
  local found = slot_fields(key, 'model', 'publication', 'epoch', 'seq', 'other:epoch', 'other:seq')
  local has_newer_plain = found and is_older(ARGV[5], ARGV[5 + i], found[3], found[4])
  local has_newer_other = found and is_older(ARGV[5], ARGV[5 + i], found[5], found[6])
  if not found then
    -- another application's
  elseif not has_newer_plain and not has_newer_other then
    deleted = deleted + redis.call('DEL', key)
  elseif not has_newer_other then
    redis.call('HDEL', key, unpack(OTHER))
  elseif not has_newer_plain then
    set(key, PLAIN, redis.call('HMGET', key, unpack(OTHER)))
    redis.call('HDEL', key, unpack(OTHER))
  end
end
return deleted
