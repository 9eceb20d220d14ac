-- Deletes the slots of dead models, and puts the model that serves into the plain fields.
--
-- KEYS   the users' HASHes
-- ARGV   1-4 as in slots.lua
-- Returns how many of KEYS it changed.
-- include slots.lua

local changed = 0
for _, key in ipairs(KEYS) do
  local found = slot_fields(key, 'model', 'publication', 'other:model', 'other:publication') or {}
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
