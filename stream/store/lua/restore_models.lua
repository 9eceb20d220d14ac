-- Puts back which models are live, where Redis has lost it; coverage must be reported again.
--
-- KEYS   as in registry.lua
-- ARGV   the values of FIELDS, as the caller knows them; where Redis knows of a later change, nothing but the
--        reports of coverage goes
-- Returns which models are live then.
-- include registry.lua

forget_coverage()
if number('generation') < tonumber(ARGV[1]) then
  for place, name in ipairs(FIELDS) do redis.call('HSET', key, name, ARGV[place]) end
end
return models()
