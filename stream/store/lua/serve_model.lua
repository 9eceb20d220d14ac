-- Has a model serve at once; one that is older than the serving one changes nothing.
--
-- KEYS   as in registry.lua
-- ARGV   1 version; 2 publication number
-- Returns which models are live then.
-- include registry.lua

local version, publication = ARGV[1], tonumber(ARGV[2])
if version ~= serving then
  if version == staged then
    serve(version, staged_publication, serving, serving_publication)
  elseif serving == '' or publication >= serving_publication then
    serve(version, next_publication(publication), serving, serving_publication)
  end
end
return models()
