-- A deterministic workload for the interpreter: closures, strings, tables, sorting, float formatting, garbage, files.
local scale = tonumber(arg[1]) or 1
local dir = arg[2] or "/data"

local seed = 42
local function random(n)
  seed = (seed * 1103515245 + 12345) % 2147483648
  return seed // 65536 % n
end

local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end

local function queens(n)
  local count, cols, up, down = 0, {}, {}, {}
  local function place(row)
    if row > n then count = count + 1 return end
    for c = 1, n do
      if not (cols[c] or up[row + c] or down[row - c]) then
        cols[c], up[row + c], down[row - c] = true, true, true
        place(row + 1)
        cols[c], up[row + c], down[row - c] = nil, nil, nil
      end
    end
  end
  place(1)
  return count
end

local function sieve(n)
  local composite, count, sum = {}, 0, 0
  for i = 2, n do
    if not composite[i] then
      count, sum = count + 1, sum + i
      for j = i * i, n, i do composite[j] = true end
    end
  end
  return count, sum
end

local function words(n)
  local seen, list = {}, {}
  for i = 1, n do
    local w = {}
    for j = 1, 2 + random(3) do w[j] = string.char(97 + random(6)) end
    local word = table.concat(w)
    if not seen[word] then seen[word] = 0; list[#list + 1] = word end
    seen[word] = seen[word] + 1
  end
  table.sort(list, function(a, b)
    if seen[a] ~= seen[b] then return seen[a] > seen[b] end
    return a < b
  end)
  return list, seen
end

local Account = {}
Account.__index = Account
Account.__add = function(a, b) return setmetatable({ balance = a.balance + b.balance }, Account) end
Account.__tostring = function(a) return string.format("<%.3f>", a.balance) end
function Account.new(b) return setmetatable({ balance = b }, Account) end

local function text(n)
  local out = {}
  for i = 1, n do
    out[#out + 1] = ("%d:%s;"):format(i, ("item"):rep(i % 3 + 1, "-"))
  end
  local s = table.concat(out)
  local digits = 0
  for d in s:gmatch("%d+") do digits = digits + tonumber(d) end
  return #s, digits, (s:gsub("item%-item", "pair")):sub(1, 40)
end

local log = assert(io.open(dir .. "/log.txt", "w"))
for round = 1, scale do
  print("round", round)
  print("fib", fib(14 + round % 3))
  print("queens", queens(6))
  print("sieve", sieve(1500))
  local list, seen = words(600)
  print("words", #list, list[1], seen[list[1]], list[#list])
  local sum = Account.new(0)
  for i = 1, 200 do sum = sum + Account.new(i / 7) end
  print("account", tostring(sum))
  print("text", text(150))
  print("float", string.format("%.14g %a %g", math.sin(round) * 1e10, 1 / 3 * round, 2 ^ 0.5))
  local matrix = {}
  for i = 1, 12 do
    matrix[i] = {}
    for j = 1, 12 do matrix[i][j] = (i * j + round) % 7 + 0.5 end
  end
  local trace = 0
  for i = 1, 12 do for j = 1, 12 do for k = 1, 12 do
    if i == j then trace = trace + matrix[i][k] * matrix[k][j] end
  end end end
  print("trace", trace)
  log:write("round ", round, " trace ", trace, "\n")
end
log:close()
collectgarbage()
print("done")
