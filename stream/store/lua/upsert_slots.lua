-- Writes one row to each user's HASH, unless a newer one is there.
--
-- KEYS   the users' HASHes
-- ARGV   1-4 as in slots.lua; 5 '1' writes whatever is there; 6 seconds until a key expires, 0: never; then,
--        for each of KEYS, the thirteen fields of its row in the order of PLAIN
-- Returns how many rows were written, and then the places in KEYS of those that are another application's.
-- include slots.lua

local force, ttl = ARGV[5] == '1', tonumber(ARGV[6])
local written, foreign = 0, {}
for i, key in ipairs(KEYS) do
  local base = 6 + (i - 1) * #PLAIN
  local model = ARGV[base + 1]
  local plain, prefix = slot_fields(key, 'model', 'publication', 'epoch', 'seq'), ''
  if not plain then
    foreign[#foreign + 1] = i
    plain, prefix = {}, nil
  end
  local mine = plain
  if plain[1] and plain[1] ~= model then
    local other = redis.call('HMGET', key, 'other:model', 'other:publication', 'other:epoch', 'other:seq')
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
    -- Names written out: making the arguments in a loop costs a fifth of the whole call.
    if prefix == '' then
      redis.call('HSET', key,
        'model', ARGV[base + 1], 'publication', ARGV[base + 2], 'epoch', ARGV[base + 3], 'seq', ARGV[base + 4],
        'ts', ARGV[base + 5], 'n', ARGV[base + 6], 'written_at', ARGV[base + 7], 'format', ARGV[base + 8],
        'vec', ARGV[base + 9], 'long', ARGV[base + 10], 'short', ARGV[base + 11], 'history', ARGV[base + 12],
        'inputs', ARGV[base + 13])
    else
      redis.call('HSET', key,
        'other:model', ARGV[base + 1], 'other:publication', ARGV[base + 2], 'other:epoch', ARGV[base + 3],
        'other:seq', ARGV[base + 4], 'other:ts', ARGV[base + 5], 'other:n', ARGV[base + 6],
        'other:written_at', ARGV[base + 7], 'other:format', ARGV[base + 8], 'other:vec', ARGV[base + 9],
        'other:long', ARGV[base + 10], 'other:short', ARGV[base + 11], 'other:history', ARGV[base + 12],
        'other:inputs', ARGV[base + 13])
    end
    expire(key, prefix)
    if ttl > 0 then redis.call('EXPIRE', key, ttl) end
    written = written + 1
  end
end
return {written, unpack(foreign)}
