-- Gives a topic its epoch, if it has none: Redis' own clock, so that an epoch given out later is greater even
-- after Redis came back empty; and greater than all others, also where the clock was set back.
--
-- KEYS   the HASH of topic id -> epoch
-- ARGV   1 id of the topic; 2 its epoch as the caller knows it, 0: not known
-- Returns the epoch.

local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then return tonumber(stored) end
local now = redis.call('TIME')
local epoch = tonumber(ARGV[2])
if epoch == 0 then
  epoch = now[1] * 1000 + math.floor(now[2] / 1000)
  for _, other in ipairs(redis.call('HVALS', KEYS[1])) do epoch = math.max(epoch, tonumber(other) + 1) end
end
redis.call('HSET', KEYS[1], ARGV[1], epoch)
return epoch
