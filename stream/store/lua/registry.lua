-- Shared by the scripts that change which models are live: what stands there now, and the steps of a change.
--
-- KEYS of each of them: 1, the HASH that says which models are live. Each ends with `return models()`.

local key = KEYS[1]

-- What each script returns the values of, in the order of registry_state.MODELS_FIELDS.
local FIELDS = {
  'generation', 'latest', 'switched_at', 'partitions', 'coverage', 'serving', 'serving_publication', 'staged',
  'staged_publication', 'previous', 'previous_publication',
}

local function get(name) return redis.call('HGET', key, name) or '' end
local function number(name) return tonumber(redis.call('HGET', key, name) or nil) or 0 end

local function forget_coverage()
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if string.sub(name, 1, 8) == 'covered:' then redis.call('HDEL', key, name) end
  end
end

-- Gives out a publication number: the wanted one, or the next free one where that is not greater than all
-- before.
local function next_publication(wanted)
  local latest = redis.call('HGET', key, 'latest')
  local publication = tonumber(wanted)
  if latest and publication <= tonumber(latest) then publication = tonumber(latest) + 1 end
  redis.call('HSET', key, 'latest', publication)
  return publication
end

local function put(role, version, publication)
  redis.call('HSET', key, role, version, role .. '_publication', publication)
end

local function changed() redis.call('HINCRBY', key, 'generation', 1) end

local function serve(version, publication, previous, previous_publication)
  local now = redis.call('TIME')
  put('serving', version, publication)
  put('previous', previous, previous_publication)
  put('staged', '', 0)
  redis.call('HSET', key, 'switched_at', now[1] * 1000 + math.floor(now[2] / 1000))
  forget_coverage()
  changed()
end

local function models() return redis.call('HMGET', key, unpack(FIELDS)) end

local serving, serving_publication = get('serving'), number('serving_publication')
local staged, staged_publication = get('staged'), number('staged_publication')
local previous, previous_publication = get('previous'), number('previous_publication')
