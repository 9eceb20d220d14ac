-- Makes a model live beside the serving one; where none serves, it serves at once.
--
-- KEYS   as in registry.lua
-- ARGV   1 version; 2 publication number; 3 partitions that must be reported before it serves; 4 share of their
--        users that must have it, from 0 to 1
-- Returns which models are live then.
-- include registry.lua

local version = ARGV[1]
if serving == '' then
  serve(version, next_publication(ARGV[2]), '', 0)
elseif version ~= serving then
  redis.call('HSET', key, 'partitions', ARGV[3], 'coverage', ARGV[4])
  if version ~= staged then
    put('staged', version, next_publication(ARGV[2]))
    put('previous', '', 0)
    forget_coverage()
    changed()
  end
end
return models()
