-- Has the previous model serve again, under a new publication number; what served becomes the previous one.
--
-- KEYS   as in registry.lua
-- ARGV   1 version to get away from: where another serves, nothing changes
-- Returns which models are live then.
-- include registry.lua

if ARGV[1] == serving and previous ~= '' then
  serve(previous, next_publication(0), serving, serving_publication)
end
return models()
