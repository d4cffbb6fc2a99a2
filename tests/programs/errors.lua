-- Errors and coroutines, which Lua makes of setjmp and longjmp: `lua errors.lua SCALE DIR`.
local scale = tonumber(arg[1]) or 1
local log = assert(io.open((arg[2] or ".") .. "/errors.txt", "w"))

local seed = 1
local function random(n)
  seed = (seed * 1103515245 + 12345) % 2147483648
  return seed // 65536 % n
end

-- Fails at the bottom of a recursion; some of the frames on the way up catch it and fail anew.
local function dive(n, how)
  if n == 0 then how() end
  if n % 7 == 3 then
    local ok, e = pcall(dive, n - 1, how)
    error(type(e) == "table" and e or { n = n, e = tostring(e):gsub("^.*: ", "") })
  end
  return 1 + dive(n - 1, how)
end

local closed = 0
local function guarded(n)
  local guard <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
  if n % 3 == 0 then error("guarded " .. n, 0) end
  return n
end

-- Permutations by a recursive coroutine, and a pipeline of coroutines.
local function permutations(list)
  local function go(n)
    if n == 0 then coroutine.yield(list) end
    for i = 1, n do
      list[i], list[n] = list[n], list[i]
      go(n - 1)
      list[i], list[n] = list[n], list[i]
    end
  end
  return coroutine.wrap(function() go(#list) end)
end

local function numbers(n)
  return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end)
end
local function filter(source, keep)
  return coroutine.wrap(function()
    for x in source do
      local ok, yes = pcall(keep, x)
      if not ok then coroutine.yield(-x) elseif yes then coroutine.yield(x) end
    end
  end)
end

local faults = {
  function() error("plain", 0) end,
  function() return nil + 1 end,
  function() return ("x"):nothing() end,
  function() error({ code = random(100) }) end,
  function() return string.rep("x", -1) .. {} end,
  function() return #5 end,
  function() error() end,
}

for round = 1, scale do
  local kinds = {}
  for i = 1, 150 do
    local ok, e = pcall(dive, random(40), faults[random(#faults) + 1])
    local key = type(e) == "table" and (e.code and "code " .. e.code // 20 or "wrapped " .. e.e) or tostring(e):gsub("^.*: ", "")
    kinds[key] = (kinds[key] or 0) + 1
  end
  local list = {}
  for k, n in pairs(kinds) do list[#list + 1] = k .. "=" .. n end
  table.sort(list)
  print("round", round, table.concat(list, "; "))
  local sum, seen = 0, 0
  for p in permutations({ 1, 2, 3, 4, 5 }) do sum, seen = sum * 31 % 65521 + p[1] * p[5], seen + 1 end
  print("permutations", seen, sum)
  local piped = 0
  for x in filter(filter(numbers(300), function(x) return x % 3 ~= 0 end), function(x) return x % 10 == 0 and error("ten") or x % 2 == 0 end) do piped = piped + x end
  print("piped", piped)
  for i = 1, 50 do pcall(guarded, i) end
  print("closed", closed, select(2, xpcall(dive, function(e) return "handled " .. type(e) end, 20, faults[2])))
  local co = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() closed = closed + 1000 end }) coroutine.yield() end)
  coroutine.resume(co)
  print("coroutine", coroutine.close(co), coroutine.status(co), coroutine.resume(co))
  log:write(round, " ", sum, " ", piped, " ", closed, "\n")
end
print("stack", (tostring(select(2, pcall(string.rep, "x", -1, {}))):gsub("^.*: ", "")))
log:close()
print("done")
