// The scan, forward. One unit of work is a (batch, channel group) that goes through all walks one after the other and
// adds them up in place; where that gives too few units, each walk is cut into segments as well.
namespace mmvim::MMVIM_ISA {

// States whose recurrences run at once in registers.
#if defined(MMVIM_AVX512)
constexpr int kStates = 16;
#elif defined(MMVIM_AVX2)
constexpr int kStates = 8;
#else
constexpr int kStates = 4;
#endif

// Cuts `count` into pieces of `Most` and then powers of two, and calls body with each piece's size as a type.
template <int Size>
struct Piece {
  static constexpr int size = Size;
};
template <int Most, class Body>
MMVIM_HD void for_pieces(int64_t count, Body body) {
  int64_t n = 0;
  for (; n + Most <= count; n += Most) body(n, Piece<Most>{});
  if constexpr (Most > 8)
    if (n + 8 <= count) body(n, Piece<8>{}), n += 8;
  if constexpr (Most > 4)
    if (n + 4 <= count) body(n, Piece<4>{}), n += 4;
  if constexpr (Most > 2)
    if (n + 2 <= count) body(n, Piece<2>{}), n += 2;
  if constexpr (Most > 1)
    if (n + 1 <= count) body(n, Piece<1>{}), n += 1;
}

// A log2 e. What is finite stays finite: times a delta of 0 it is 0, and infinity is NaN.
template <class T>
MMVIM_HD T in_base_2(T a) {
  constexpr T kMost = sizeof(T) == 4 ? T(__FLT_MAX__) : T(__DBL_MAX__), kLimit = kMost * static_cast<T>(kLn2);
  const T scaled = a * static_cast<T>(1 / kLn2);
  if (a > kLimit && a <= kMost) return kMost;
  return a < -kLimit && a >= -kMost ? -kMost : scaled;
}

// What a walk needs to know about its channels, laid out by vectors.
template <class T>
struct WalkParameters {
  Buffer<T> a2;                  // [block][state][lane], A log2 e
  Buffer<T> bound, skip, bias;   // [block][lane]; where |delta| is within `bound`, all decays are near, see exp2_product
  Buffer<T> weight;              // [block][rank][lane], or [block][rank / 2][lane] pairs of bfloat16
  const bool has_skip;  // without one, an infinite u is no NaN
  WalkParameters(const ScanInputs& p, int64_t lanes)
      : a2(lanes * p.states),
        bound(lanes),
        skip(lanes),
        bias(lanes),
        weight(lanes * larger(p.rank, 1)),
        has_skip(p.skip.data),
        values(in_pairs<T>(p) ? lanes * p.rank : 0) {}
  void load(const ScanInputs& p, int64_t k, const Group& g) {
    load_transposed(p.a, k, g, p.states, a2.data);
    for (int64_t i = 0; i < g.blocks * p.states * kLanes<T>; ++i) a2.data[i] = in_base_2(a2.data[i]);
    for (int i = 0; i < g.blocks; ++i) {
      Vec<T> most = splat(T(1e-20));
      for (int64_t n = 0; n < p.states; ++n) {
        const Vec<T> v = mmvim::MMVIM_ISA::load<T>(a2.data + (i * p.states + n) * kLanes<T>);
        most = at_least(at_least(v, -v), most);
      }
      store<T>(bound.data + i * kLanes<T>, static_cast<T>(kNear) / most);
    }
    load_channels(p.skip, k, g, skip.data);
    load_channels(p.bias, k, g, bias.data);
    if (in_pairs<T>(p))
      load_pairs(p, k, g);
    else if (p.rank)
      load_transposed(p.dt_weight, k, g, p.rank, weight.data);
  }

 private:
  void load_pairs(const ScanInputs& p, int64_t k, const Group& g) {
    if constexpr (kPairs<T>) {
      constexpr int V = kLanes<T>;
      const int64_t pairs = ceil_div(p.rank, 2);
      load_transposed(p.dt_weight, k, g, p.rank, values.data);
      for (int b = 0; b < g.blocks; ++b)
        for (int64_t r = 0; r < p.rank; r += 2) {
          const T* from = values.data + (b * p.rank + r) * V;
          const Vec<T> high = r + 1 < p.rank ? mmvim::MMVIM_ISA::load<T>(from + V) : Vec<T>{};
          store<T>(weight.data + (b * pairs + r / 2) * V, to_pairs(mmvim::MMVIM_ISA::load<T>(from), high));
        }
    }
  }

  Buffer<T> values;  // of a weight before they are put into pairs
};

// raw[block][step][lane] = bias + weight @ low[step]. Steps of `low` are `stride` apart; `terms`: ranks or pairs.
template <bool Pairs, class T>
static void project(const T* low, int stride, int count, int64_t terms, const WalkParameters<T>& w, int blocks,
                    T* raw) {
  constexpr int V = kLanes<T>, kSteps = 8;
  for (int b = 0; b < blocks; ++b) {
    const T* weight = w.weight.data + b * terms * V;
    const Vec<T> bias = load<T>(w.bias.data + b * V);
    for_pieces<kSteps>(count, [&]<class P>(int64_t i, P) {
      Vec<T> sum[P::size];
      for (int j = 0; j < P::size; ++j) sum[j] = bias;
      const T* values = low + i * stride;
      for (int64_t r = 0; r < terms; ++r) {
        const Vec<T> v = load<T>(weight + r * V);
#pragma GCC unroll 8
        for (int j = 0; j < P::size; ++j) {
          if constexpr (Pairs)
            sum[j] = add_pairs(sum[j], v, values[j * stride + r]);
          else
            sum[j] += v * values[j * stride + r];
        }
      }
#pragma GCC unroll 8
      for (int j = 0; j < P::size; ++j) store<T>(raw + (b * kTile + i + j) * V, sum[j]);
    });
  }
}

MMVIM_HD const int64_t* u_rows(const ScanInputs& p, const TileRows& rows) { return p.u_step ? rows.own : rows.token; }
MMVIM_HD const int64_t* param_rows(const ScanInputs& p, const TileRows& rows) {
  return p.param_step ? rows.own : rows.token;
}

// The inputs' rows of the next tile.
template <class T>
static void look_ahead(const ScanInputs& p, int64_t b, int64_t k, const Group& g, const TileRows& next, Ahead& ahead) {
  constexpr int V = kLanes<T>;
  const int64_t *u_at = u_rows(p, next), *param_at = param_rows(p, next);
  ahead.add(p.io, p.u.data, b * p.u.batch + k * p.u.walk + g.first, p.u.row, next, u_at, V);
  if (!p.rank)
    ahead.add(p.io, p.delta.data, b * p.delta.batch + k * p.delta.walk + g.first, p.delta.row, next, param_at, V);
  if (p.z.data) ahead.add(p.io, p.z.data, b * p.z.batch + g.first, p.z.row, next, next.token, V);
}

// tile = delta before softplus: bias added, low rank projected.
template <class T>
static void load_delta(const ScanInputs& p, const SharedSteps<T>& shared, int64_t b, int64_t k, int64_t s,
                       const TileRows& rows, const Group& g, const WalkParameters<T>& w, T* tile) {
  constexpr int V = kLanes<T>;
  if (p.rank) {
    const T* low = shared.projected(b, k, s);
    if constexpr (kPairs<T>)
      if (in_pairs<T>(p))
        return project<true>(low, shared.stride(), rows.count, ceil_div(p.rank, 2), w, g.blocks, tile);
    return project<false>(low, shared.stride(), rows.count, p.rank, w, g.blocks, tile);
  }
  const int64_t offset = b * p.delta.batch + k * p.delta.walk;
  load_tile(p.io, p.delta.data, offset, p.delta.row, param_rows(p, rows), rows.count, g, tile);
  if (!p.bias.data) return;
  for (int block = 0; block < g.blocks; ++block) {
    const Vec<T> bias = load<T>(w.bias.data + block * V);
    for (int i = 0; i < rows.count; ++i) {
      T* v = tile + (block * kTile + i) * V;
      store<T>(v, load<T>(v) + bias);
    }
  }
}

// Runs NS states of vector `block` of channels over a tile. h [NS][lane] is carried; y [step][lane] is set (First) or
// added to. `skip` is null where there is none.
template <class T, int NS, bool First, bool Near, Accuracy A>
static void recur(const T* delta, const T* u, const T* a2, const T* skip, const T* b, const T* c, int stride, int count,
                  T* h, T* y, const Ahead& ahead, int block) {
  constexpr int V = kLanes<T>;
  Vec<T> state[NS];
  for (int n = 0; n < NS; ++n) state[n] = load<T>(h + n * V);
  for (int i = 0; i < count; ++i) {
    const Vec<T> d = load<T>(delta + i * V), x = load<T>(u + i * V), dx = d * x;
    Vec<T> even = !First ? load<T>(y + i * V) : skip ? load<T>(skip) * x : Vec<T>{}, odd = {};
    const T* bi = b + i * stride;
    const T* ci = c + i * stride;
    if (First) ahead.ask(i, block);
#pragma GCC unroll 16
    for (int n = 0; n < NS; ++n) {
      const Vec<T> decay = exp2_product<Near, A>(d, load<T>(a2 + n * V));
      state[n] = decay * state[n] + dx * bi[n];
      if (n & 1)
        odd += state[n] * ci[n];
      else
        even += state[n] * ci[n];
    }
    store<T>(y + i * V, NS > 1 ? even + odd : even);
  }
  for (int n = 0; n < NS; ++n) store<T>(h + n * V, state[n]);
}

// Where the outputs of the walks add up, in the state type: the group's first channel of token 0, and a token's stride.
template <class T>
struct Sum {
  T* data;
  int64_t row;
};

// A worker's view of the scan: scratch for one tile, and the steps of one walk through it.
template <class T>
class ForwardWorker {
 public:
  ForwardWorker(const ScanForward& p, const SharedSteps<T>& shared, const Grouping& grouping)
      : p(p),
        shared(shared),
        grouping(grouping),
        parameters(p, grouping.tile<T>() / kTile),
        u(grouping.tile<T>()),
        delta(grouping.tile<T>()),
        y(grouping.tile<T>()),
        h(grouping.tile<T>() / kTile * p.states) {}

  void begin(int64_t batch, int64_t walk, int64_t group_index) {
    b_ = batch, k_ = walk, g_ = grouping.group<T>(group_index);
    parameters.load(p, walk, g_);
    fill_zero(h.data, g_.blocks * p.states * V);
  }

  // Goes through steps [s0, s1); s0 is a multiple of kTile. `deliver(rows)` takes each tile of outputs from `y`.
  template <class Deliver>
  void run(int64_t s0, int64_t s1, Deliver deliver) {
    find_rows(p.walks, k_, s0, static_cast<int>(smaller(kTile, s1 - s0)), rows);
    for (int64_t s = s0; s < s1; s += kTile) {
      const int64_t following = smaller(kTile, s1 - s - kTile);
      ahead.used = 0;
      if (following > 0) {
        find_rows(p.walks, k_, s + kTile, static_cast<int>(following), next);
        look_ahead<T>(p, b_, k_, g_, next, ahead);
        ahead.add(p.out, p.y, output_offset() + g_.first, p.channels, next, next.token, V);
      }
      if (s && p.saved) save(s);
      load_inputs(s);
      const T *b = shared.b(b_, k_, s), *c = shared.c(b_, k_, s);
      for (int i = 0; i < g_.blocks; ++i)
        near[i] = all_within(delta.data + i * kTile * V, rows.count, parameters.bound.data + i * V);
      for_pieces<kStates>(p.states, [&]<class P>(int64_t n, P) {
        for (int i = 0; i < g_.blocks; ++i) {
          const T* d = delta.data + i * kTile * V;
          const T* x = u.data + i * kTile * V;
          const T* a2 = parameters.a2.data + (i * p.states + n) * V;
          T* hi = h.data + (i * p.states + n) * V;
          T* yi = y.data + i * kTile * V;
          const T* skip = parameters.has_skip ? parameters.skip.data + i * V : nullptr;
          const auto steps = n ? recurrence<P::size, false>(near[i]) : recurrence<P::size, true>(near[i]);
          steps(d, x, a2, skip, b + n, c + n, shared.stride(), rows.count, hi, yi, ahead, i);
        }
      });
      deliver();
      rows = next;
    }
  }

  template <int NS, bool First>
  auto recurrence(bool near) const {
    return with_accuracy<T>(p.io, [&]<Accuracy A>(Deserved<A>) {
      return !kNearMatters<T> || near ? recur<T, NS, First, true, A> : recur<T, NS, First, false, Accuracy::kFull>;
    });
  }

  // Adds up delta over steps [s0, s1) into total[block][lane], next to running the states.
  void summarise(int64_t s0, int64_t s1, T* total) {
    fill_zero(total, g_.blocks * V);
    run(s0, s1, [&] {
      for (int i = 0; i < g_.blocks; ++i) {
        Vec<T> sum = load<T>(total + i * V);
        for (int j = 0; j < rows.count; ++j) sum += load<T>(delta.data + (i * kTile + j) * V);
        store<T>(total + i * V, sum);
      }
    });
  }

  // h = decay over a segment * h + the segment's own end state. A sum of finite deltas is not to be infinite, nor is
  // nothing to become NaN where a decay is.
  void pass_segment(const T* total, const T* end) {
    const Vec<T> most = splat(sizeof(T) == 4 ? T(__FLT_MAX__) : T(__DBL_MAX__));
    for (int i = 0; i < g_.blocks; ++i) {
      const Vec<T> d = at_least(at_most(load<T>(total + i * V), most), -most);
      for (int64_t n = 0; n < p.states; ++n) {
        const int64_t at = (i * p.states + n) * V;
        const Vec<T> decay = exp2_product<false, Accuracy::kFull>(d, load<T>(parameters.a2.data + at));
        const Vec<T> h0 = load<T>(h.data + at);
        store<T>(h.data + at, (h0 == T(0) ? Vec<T>{} : decay * h0) + load<T>(end + at));
      }
    }
  }

  // y = scale * silu(z) * y at the given tokens.
  void gate(const int64_t* tokens, int count) {
    if (p.z.data) load_tile(p.io, p.z.data, b_ * p.z.batch, p.z.row, tokens, count, g_, u.data);
    if (!p.z.data && p.scale == 1) return;
    const T scale = static_cast<T>(p.scale);
    with_accuracy<T>(p.io, [&]<Accuracy A>(Deserved<A>) {
      for (int i = 0; i < g_.blocks; ++i)
        for (int j = 0; j < count; ++j) {
          const int at = (i * kTile + j) * V;
          Vec<T> v = load<T>(y.data + at) * scale;
          if (p.z.data) {
            const Vec<T> z = load<T>(u.data + at);
            v *= z * sigmoid<A>(z);
          }
          store<T>(y.data + at, v);
        }
    });
  }

  // Hands the tile to the output: as it is with the gate (last), or into the sum over walks.
  void deliver_tile(const Sum<T>& sum, bool add, bool last) {
    if (add && last) {
      load_tile_as<T>(sum.data, sum.row, rows.token, rows.count, g_, u.data);
      for (int i = 0; i < g_.blocks; ++i)
        for (int j = 0; j < rows.count; ++j) {
          const int at = (i * kTile + j) * V;
          store<T>(y.data + at, load<T>(y.data + at) + load<T>(u.data + at));
        }
    }
    if (last) {
      gate(rows.token, rows.count);
      store_tile(p.out, p.y, output_offset(), p.channels, rows.token, rows.count, g_, y.data);
    } else if (add) {
      add_tile(sum.data, sum.row, rows.token, rows.count, g_, y.data);
    } else {
      store_tile_as<T>(sum.data, sum.row, rows.token, rows.count, g_, y.data);
    }
  }

  // Turns the finished sum over walks into the output, where the last walk leaves out tokens.
  void finish(const Sum<T>& sum, bool in_place) {
    if (in_place && !p.z.data && p.scale == 1) return;
    for (int64_t t = 0; t < p.walks.tokens; t += kTile) {
      const int count = static_cast<int>(smaller(kTile, p.walks.tokens - t));
      for (int i = 0; i < count; ++i) rows.token[i] = t + i;
      load_tile_as<T>(sum.data, sum.row, rows.token, count, g_, y.data);
      gate(rows.token, count);
      store_tile(p.out, p.y, output_offset(), p.channels, rows.token, count, g_, y.data);
    }
  }

  void store_last_state() {
    T* out = static_cast<T*>(p.last_state) + ((b_ * p.walks.count + k_) * p.channels + g_.first) * p.states;
    for (int c = 0; c < g_.width; ++c)
      for (int64_t n = 0; n < p.states; ++n) out[c * p.states + n] = h.data[((c / V) * p.states + n) * V + c % V];
  }

  // Zeroes the group's part of this (batch, walk)'s output where the walk does not come.
  void zero_rest(const Visits& visits) {
    const int64_t size = bytes_of(p.out);
    visits.zero_rest(k_, static_cast<char*>(p.y) + (output_offset() + g_.first) * size, p.channels * size,
                     g_.width * size);
  }

  int64_t output_offset() const {
    return (p.merge ? b_ : b_ * p.walks.count + k_) * p.walks.tokens * p.channels;
  }
  const Group& group() const { return g_; }
  T* state() { return h.data; }

 private:
  static constexpr int V = kLanes<T>;

  void load_inputs(int64_t s) {
    load_tile(p.io, p.u.data, b_ * p.u.batch + k_ * p.u.walk, p.u.row, u_rows(p, rows), rows.count, g_, u.data);
    load_delta(p, shared, b_, k_, s, rows, g_, parameters, delta.data);
    if (p.delta_softplus)
      with_accuracy<T>(p.io, [&]<Accuracy A>(Deserved<A>) {
        for (int i = 0; i < g_.blocks; ++i)
          for (int j = 0; j < rows.count; ++j) {
            T* d = delta.data + (i * kTile + j) * V;
            store<T>(d, softplus<A>(load<T>(d)));
          }
      });
  }

  void save(int64_t s) {
    const int64_t saved = ceil_div(p.walks.steps, kTile) - 1;
    T* out = static_cast<T*>(p.saved) +
             ((b_ * p.walks.count + k_) * saved + s / kTile - 1) * p.states * p.channels + g_.first;
    for (int64_t n = 0; n < p.states; ++n)
      for (int i = 0; i < g_.blocks; ++i) {
        const Vec<T> v = load<T>(h.data + (i * p.states + n) * V);
        const int left = g_.width - i * V;
        T* at = out + n * p.channels + i * V;
        if (left >= V)
          store<T>(at, v);
        else
          store_some<T>(at, v, left);
      }
  }

  const ScanForward& p;
  const SharedSteps<T>& shared;
  const Grouping& grouping;
  WalkParameters<T> parameters;
  Buffer<T> u, delta, y, h;
  bool near[kMostBlocks<T>];  // of the tile's decays
  TileRows rows, next;
  Ahead ahead;
  int64_t b_ = 0, k_ = 0;
  Group g_{};
};

template <class T>
static void scan_whole(const ScanForward& p, const Pool& pool, const SharedSteps<T>& shared, const Visits& visits,
                       const Grouping& grouping) {
  const int64_t walks = p.walks.count, outer = p.merge ? p.batch : p.batch * walks;
  const bool in_place = p.out == (sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32);
  const bool finishing = !visits.whole(walks - 1);  // after the last walk, as it leaves out tokens
  const bool summing = p.merge && (walks > 1 || finishing);
  for_units(pool, outer * grouping.count, [&](Counter& next) {
    ForwardWorker<T> worker(p, shared, grouping);
    // Without a sum in the output itself, this worker's channels add up in a buffer of its own.
    Buffer<T> own(summing && !in_place ? p.walks.tokens * grouping.width : 1);
    for (int64_t unit; (unit = next()) >= 0;) {
      const int64_t group = unit % grouping.count, index = unit / grouping.count;
      if (!p.merge) {
        worker.begin(index / walks, index % walks, group);
        worker.zero_rest(visits);
        worker.run(0, p.walks.steps, [&] { worker.deliver_tile({}, false, true); });
        worker.store_last_state();
        continue;
      }
      Sum<T> sum{};
      for (int64_t k = 0; k < walks; ++k) {
        worker.begin(index, k, group);
        if (k == 0 && summing) {
          if (in_place)
            sum = {static_cast<T*>(p.y) + worker.output_offset() + worker.group().first, p.channels};
          else
            sum = {own.data, grouping.width};
          visits.zero_rest(0, sum.data, sum.row, worker.group().width);
        }
        const bool add = k > 0 || !visits.once(0), last = k == walks - 1 && !finishing;
        worker.run(0, p.walks.steps, [&] { worker.deliver_tile(sum, add, last); });
        worker.store_last_state();
      }
      if (finishing) worker.finish(sum, in_place);
    }
  });
}

// Two passes over each walk: the end state of every segment started from zero, then the real run, each segment started
// from what its predecessors leave.
template <class T>
static void scan_segments(const ScanForward& p, const Pool& pool, const SharedSteps<T>& shared, const Visits& visits,
                          const Grouping& grouping, int64_t segments) {
  const int64_t walks = p.walks.count, steps = p.walks.steps;
  const int64_t length = ceil_div(ceil_div(steps, segments), kTile) * kTile;
  segments = ceil_div(steps, length);
  const int64_t lanes = grouping.tile<T>() / kTile, state = lanes * p.states;
  const int64_t chains = p.batch * walks * grouping.count;
  Buffer<T> ends(chains * segments * state), totals(chains * segments * lanes);
  const auto chain = [&](int64_t b, int64_t k, int64_t g) { return (b * walks + k) * grouping.count + g; };

  ScanForward silent = p;
  silent.saved = nullptr;
  for_units(pool, chains * (segments - 1), [&](Counter& next) {
    ForwardWorker<T> worker(silent, shared, grouping);
    for (int64_t unit; (unit = next()) >= 0;) {
      const int64_t segment = unit % (segments - 1), index = unit / (segments - 1);
      const int64_t g = index % grouping.count, k = index / grouping.count % walks, b = index / grouping.count / walks;
      worker.begin(b, k, g);
      const int64_t at = chain(b, k, g) * segments + segment;
      worker.summarise(segment * length, (segment + 1) * length, totals.data + at * lanes);
      for (int64_t i = 0; i < state; ++i) ends.data[at * state + i] = worker.state()[i];
    }
  });

  const bool in_place = p.out == (sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32);
  const bool finishing = !visits.whole(walks - 1), summing = p.merge && (walks > 1 || finishing);
  const int64_t map = p.walks.tokens * p.channels, row = p.channels * bytes_of(p.out);
  Buffer<T> own(summing && !in_place ? p.batch * map : 1);
  T* sums = in_place ? static_cast<T*>(p.y) : own.data;
  for (int64_t b = 0; b < p.batch; ++b) {
    if (summing) visits.zero_rest(0, sums + b * map, p.channels, p.channels);
    for (int64_t k = 0; k < walks && !p.merge; ++k)
      visits.zero_rest(k, static_cast<char*>(p.y) + (b * walks + k) * p.walks.tokens * row, row, row);
  }
  // Walks cross each other's segments, so those that share an output follow one another.
  for (int64_t k = 0; k < walks; ++k)
    for_units(pool, p.batch * grouping.count * segments, [&](Counter& next) {
      ForwardWorker<T> worker(p, shared, grouping);
      for (int64_t unit; (unit = next()) >= 0;) {
        const int64_t segment = unit % segments, index = unit / segments;
        const int64_t g = index % grouping.count, b = index / grouping.count;
        worker.begin(b, k, g);
        for (int64_t before = 0; before < segment; ++before) {
          const int64_t at = chain(b, k, g) * segments + before;
          worker.pass_segment(totals.data + at * lanes, ends.data + at * state);
        }
        const Sum<T> sum{sums + b * map + worker.group().first, p.channels};
        const bool last = !p.merge || (k == walks - 1 && !finishing);
        const bool add = p.merge && (k > 0 || !visits.once(0));
        worker.run(segment * length, smaller((segment + 1) * length, steps),
                   [&] { worker.deliver_tile(sum, add, last); });
        if (segment == segments - 1) worker.store_last_state();
      }
    });
  if (p.merge && finishing)
    for_units(pool, p.batch * grouping.count, [&](Counter& next) {
      ForwardWorker<T> worker(p, shared, grouping);
      for (int64_t unit; (unit = next()) >= 0;) {
        worker.begin(unit / grouping.count, 0, unit % grouping.count);
        worker.finish({sums + worker.output_offset() + worker.group().first, p.channels}, in_place);
      }
    });
}

MMVIM_HD int64_t elements(const ScanInputs& p) {
  return p.batch * p.walks.count * p.walks.steps * p.channels * (p.states + 4);
}

template <class T>
static void scan_forward(const ScanForward& p, const Pool& all) {
  const Pool pool = for_work(all, elements(p));
  const int64_t outer = p.merge ? p.batch : p.batch * p.walks.count;
  const Grouping grouping(outer, p.channels);
  const int64_t units = outer * grouping.count;
  constexpr int64_t kEnough = 4, kWanted = 8, kShortest = 8 * kTile;
  const int64_t segments = units >= kEnough ? 1 : smaller(ceil_div(kWanted, larger(units, 1)), p.walks.steps / kShortest);
  const SharedSteps<T> shared(p, pool, false);
  const Visits visits(p.walks, pool);
  if (segments > 1)
    scan_segments<T>(p, pool, shared, visits, grouping, segments);
  else
    scan_whole<T>(p, pool, shared, visits, grouping);
}

}  // namespace mmvim::MMVIM_ISA
