-- Gives up the staged or previous model.
--
-- KEYS   as in registry.lua
-- ARGV   1 version: where it is neither staged nor previous, nothing changes
-- Returns which models are live then.
-- include registry.lua

if ARGV[1] ~= '' and (ARGV[1] == staged or ARGV[1] == previous) then
  put('staged', '', 0)
  put('previous', '', 0)
  forget_coverage()
  changed()
end
return models()
