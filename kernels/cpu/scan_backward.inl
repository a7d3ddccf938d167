// Gradients of the scan. A unit of work is a (batch, channel group); it goes through all walks, each from its last tile
// to its first, recomputing the states of a tile from the one that the forward pass saved at the tile's beginning.
//
// With g = dL/dh (adjoint), a = exp(delta A) and h' the state before a step:
//   g_t = C_t dy_t + a_{t+1} g_{t+1}      dB_t = sum over channels of g delta u      dC_t = sum over channels of dy h
//   s1 = sum_n g B,  s2 = sum_n g a h' A:  du = delta s1 + D dy,  ddelta = u s1 + s2,  dA += g a h' delta
// a h' is formed as a product and not as h - delta u B, which cancels where a is small.
namespace mmvim::MMVIM_ISA {

// States handled at once: their decays and states of a whole tile stay in the first-level cache.
constexpr int kStatesBackward = 4;

// Recomputes the states of one tile. decay, before: [step][state][lane]; y as in `recur`.
template <class T, int NS, bool First, bool Near, Accuracy A>
static void recompute(const T* delta, const T* u, const T* a2, const T* skip, const T* b, const T* c, int stride,
                      int count, const T* h, T* decays, T* states, T* y, const Ahead& ahead, int block) {
  constexpr int V = kLanes<T>;
  Vec<T> state[NS];
  for (int n = 0; n < NS; ++n) state[n] = load<T>(h + n * V);
  for (int n = 0; n < NS; ++n) store<T>(states + n * V, state[n]);
  for (int i = 0; i < count; ++i) {
    const Vec<T> d = load<T>(delta + i * V), x = load<T>(u + i * V), dx = d * x;
    Vec<T> out = !First ? load<T>(y + i * V) : skip ? load<T>(skip) * x : Vec<T>{};
    if (First) ahead.ask(i, block);
#pragma GCC unroll 16
    for (int n = 0; n < NS; ++n) {
      const Vec<T> decay = exp2_product<Near, A>(d, load<T>(a2 + n * V));
      state[n] = decay * state[n] + dx * b[i * stride + n];
      out += state[n] * c[i * stride + n];
      store<T>(decays + (i * NS + n) * V, decay);
      store<T>(states + ((i + 1) * NS + n) * V, state[n]);
    }
    store<T>(y + i * V, out);
  }
}

// Runs the adjoint of the same states backwards. carry [state][lane] is a_{t+1} g_{t+1} of the step after the tile and
// becomes that of its first step. db, dc [step][state][lane] and s1, s2 [step][lane] are set (First) or added to.
template <class T, int NS, bool FirstBlock, bool FirstStates>
static void adjoint(const T* delta, const T* u, const T* dy, const T* a2, const T* b, const T* c, int stride, int count,
                    const T* decays, const T* states, T* carry, T* da, T* db, T* dc, T* s1, T* s2) {
  constexpr int V = kLanes<T>;
  Vec<T> next[NS], sum[NS], after[NS];  // `after`: the states behind the step
  for (int n = 0; n < NS; ++n) next[n] = load<T>(carry + n * V), sum[n] = load<T>(da + n * V);
  for (int n = 0; n < NS; ++n) after[n] = load<T>(states + (count * NS + n) * V);
  for (int i = count - 1; i >= 0; --i) {
    const Vec<T> d = load<T>(delta + i * V), dx = d * load<T>(u + i * V), out = load<T>(dy + i * V);
    Vec<T> with_b = FirstStates ? Vec<T>{} : load<T>(s1 + i * V), with_a = FirstStates ? Vec<T>{} : load<T>(s2 + i * V);
#pragma GCC unroll 16
    for (int n = 0; n < NS; ++n) {
      const int at = (i * NS + n) * V;
      const Vec<T> g = out * c[i * stride + n] + next[n];
      const Vec<T> new_dc = out * after[n], new_db = g * dx;
      store<T>(dc + at, FirstBlock ? new_dc : load<T>(dc + at) + new_dc);
      store<T>(db + at, FirstBlock ? new_db : load<T>(db + at) + new_db);
      with_b += g * b[i * stride + n];
      next[n] = load<T>(decays + at) * g;
      after[n] = load<T>(states + at);
      const Vec<T> q = next[n] * after[n];
      with_a += q * load<T>(a2 + n * V);
      sum[n] += q * d;
    }
    store<T>(s1 + i * V, with_b);
    store<T>(s2 + i * V, with_a);
  }
  for (int n = 0; n < NS; ++n) store<T>(carry + n * V, next[n]), store<T>(da + n * V, sum[n]);
}

// Partial results, one slice per (group, batch, walk) or (batch, walk), before they are added up.
template <class T>
struct Partials {
  T *b, *c, *low;               // [group][batch][walk or 1][row][states or rank]
  T *a, *skip, *bias, *weight;  // [batch][walk][channels][...]
};

template <class T>
class BackwardWorker {
 public:
  BackwardWorker(const ScanBackward& p, const SharedSteps<T>& shared, const Visits& visits, const Grouping& grouping,
                 const Partials<T>& partials)
      : p(p),
        shared(shared),
        visits(visits),
        grouping(grouping),
        partials(partials),
        parameters(p, lanes()),
        u(tile()),
        delta(tile()),
        slope(tile()),
        dy(tile()),
        y(tile()),
        s1(tile()),
        s2(tile()),
        scratch(tile()),
        h(lanes() * p.states),
        carry(lanes() * p.states),
        da(lanes() * p.states),
        dskip(lanes()),
        dbias(lanes()),
        dweight(lanes() * larger(p.rank, 1)),
        by_channel(grouping.width * padded_rank()),
        decays(kTile * kStatesBackward * V),
        states((kTile + 1) * kStatesBackward * V),
        db(kTile * kStatesBackward * V),
        dc(kTile * kStatesBackward * V),
        sums(kTile * kStatesBackward) {}

  void run(int64_t batch, int64_t group_index) {
    b_ = batch, group_ = group_index, g_ = grouping.group<T>(group_index);
    for (k_ = 0; k_ < p.walks.count; ++k_) run_walk();
    if (p.dz) finish_gate();
  }

 private:
  static constexpr int V = kLanes<T>;

  int64_t tile() const { return grouping.tile<T>(); }
  int64_t lanes() const { return tile() / kTile; }
  int64_t padded_rank() const { return ceil_div(p.rank, V) * V; }
  int64_t u_row_count() const { return p.u_step ? p.walks.steps : p.walks.tokens; }
  int64_t param_row_count() const { return p.param_step ? p.walks.steps : p.walks.tokens; }

  // A gradient (batch, walk or 1, rows, channels) at this unit's first channel.
  T* at(void* gradient, bool shared, int64_t rows, int64_t k) const {
    const int64_t slice = shared ? b_ : b_ * p.walks.count + k;
    return static_cast<T*>(gradient) + slice * rows * p.channels + g_.first;
  }
  // A partial sum (group, batch, walk or 1, rows, n).
  T* part(T* partial, bool shared, int64_t k, int64_t n) const {
    const int64_t walks = shared ? 1 : p.walks.count;
    return partial + ((group_ * p.batch + b_) * walks + (shared ? 0 : k)) * param_row_count() * n;
  }

  // Whether this walk's gradients are added to what is there: to another walk's, or to its own of the same token. One in
  // walking order has a row for each step.
  bool adds(bool shared, bool by_step) const { return (shared && k_ > 0) || (!by_step && !visits.once(k_)); }

  // A token that the first walk to write a gradient leaves out gets none from any of its tiles.
  void zero_rest() {
    const auto zero = [&](T* rows, bool shared, bool by_step, int64_t stride, int64_t width) {
      if (!by_step && !(shared && k_ > 0)) visits.zero_rest(k_, rows, stride, width);
    };
    if (p.du) zero(at(p.du, p.u_shared, u_row_count(), k_), p.u_shared, p.u_step, p.channels, g_.width);
    if (p.ddelta && !p.rank)
      zero(at(p.ddelta, p.delta_shared, param_row_count(), k_), p.delta_shared, p.param_step, p.channels, g_.width);
    if (p.dz) zero(at(p.dz, true, p.walks.tokens, 0), true, false, p.channels, g_.width);
    if (partials.b) zero(part(partials.b, p.b_shared, k_, p.states), p.b_shared, p.param_step, p.states, p.states);
    if (partials.c) zero(part(partials.c, p.c_shared, k_, p.states), p.c_shared, p.param_step, p.states, p.states);
    if (partials.low) zero(part(partials.low, p.delta_shared, k_, p.rank), p.delta_shared, p.param_step, p.rank, p.rank);
  }

  void run_walk() {
    zero_rest();
    parameters.load(p, k_, g_);
    if (p.rank) load_by_channel();
    const int64_t state = g_.blocks * p.states * V;
    fill_zero(carry.data, state);
    fill_zero(da.data, state);
    fill_zero(dskip.data, g_.blocks * V);
    fill_zero(dbias.data, g_.blocks * V);
    fill_zero(dweight.data, g_.blocks * V * larger(p.rank, 1));
    for (int64_t s = (p.walks.steps - 1) / kTile * kTile; s >= 0; s -= kTile) run_tile(s);
    store_parameters();
  }

  template <int NS, bool First>
  auto recomputation(bool near) const {
    return with_accuracy<T>(p.io, [&]<Accuracy A>(Deserved<A>) {
      return !kNearMatters<T> || near ? recompute<T, NS, First, true, A>
                                      : recompute<T, NS, First, false, Accuracy::kFull>;
    });
  }

  void run_tile(int64_t s) {
    find_rows(p.walks, k_, s, static_cast<int>(smaller(kTile, p.walks.steps - s)), rows);
    ahead.used = 0;
    if (s) {
      find_rows(p.walks, k_, s - kTile, kTile, next);
      look_ahead<T>(p, b_, k_, g_, next, ahead);
      ahead.add(p.grad_type, p.grad.data, b_ * p.grad.batch + k_ * p.grad.walk + g_.first, p.grad.row, next, next.token,
                V);
    }
    load_states(s);
    // Those of the next tile are far away, and one after the other of them would be waited for.
    if (s > kTile)
      for (int64_t n = 0; n < p.states; ++n)
        for (int i = 0; i < g_.blocks; ++i) __builtin_prefetch(saved_states(s - kTile) + n * p.channels + i * V);
    load_inputs(s);
    const T *b = shared.b(b_, k_, s), *c = shared.c(b_, k_, s);
    for (int i = 0; i < g_.blocks; ++i)
      near[i] = all_within(delta.data + i * kTile * V, rows.count, parameters.bound.data + i * V);
    const int stride = shared.stride();
    for_pieces<kStatesBackward>(p.states, [&]<class P>(int64_t n, P) {
      constexpr int NS = P::size;
      // A block that is partly filled comes first: what its other lanes hold belongs to no sum over channels.
      const int first = g_.width % V ? g_.blocks - 1 : 0;
      for (int at = 0; at < g_.blocks; ++at) {
        const int i = at == 0 ? first : at - (at <= first);
        const int64_t tile = i * kTile * V, state = (i * p.states + n) * V;
        const T *d = delta.data + tile, *x = u.data + tile, *a2 = parameters.a2.data + state;
        const T *bn = b + n, *cn = c + n;
        const T* skip = parameters.has_skip ? parameters.skip.data + i * V : nullptr;
        const auto forwards = n ? recomputation<NS, false>(near[i]) : recomputation<NS, true>(near[i]);
        forwards(d, x, a2, skip, bn, cn, stride, rows.count, h.data + state, decays.data, states.data, y.data + tile,
                 ahead, i);
        const auto step = n ? (at ? adjoint<T, NS, false, false> : adjoint<T, NS, true, false>)
                            : (at ? adjoint<T, NS, false, true> : adjoint<T, NS, true, true>);
        step(d, x, dy.data + tile, a2, bn, cn, stride, rows.count, decays.data, states.data, carry.data + state,
             da.data + state, db.data, dc.data, s1.data + tile, s2.data + tile);
        if (at == 0) clear_rest(db.data, rows.count * NS), clear_rest(dc.data, rows.count * NS);
      }
      if (partials.b) deliver_sums<NS>(db.data, part(partials.b, p.b_shared, k_, p.states), p.states, n, p.b_shared);
      if (partials.c) deliver_sums<NS>(dc.data, part(partials.c, p.c_shared, k_, p.states), p.states, n, p.c_shared);
    });
    combine();
    if (p.du) deliver(p.du, p.u_shared, p.u_step, u_row_count(), u_rows(p, rows), s1.data);
    if (p.rank)
      deliver_low_rank(shared.low(b_, k_, s));
    else if (p.ddelta)
      deliver(p.ddelta, p.delta_shared, p.param_step, param_row_count(), param_rows(p, rows), s2.data);
    if (p.dz) deliver(p.dz, true, false, p.walks.tokens, rows.token, y.data);
  }

  // The projection's weight as [channel][rank], 0 beyond the last one.
  void load_by_channel() {
    const T* weight = static_cast<const T*>(p.dt_weight.data) + k_ * p.dt_weight.walk + g_.first * p.rank;
    fill_zero(by_channel.data, g_.width * padded_rank());
    for (int c = 0; c < g_.width; ++c) {
      T* row = by_channel.data + c * padded_rank();
      __builtin_memcpy(row, weight + c * p.rank, static_cast<size_t>(p.rank) * sizeof(T));
    }
  }

  // Where the forward pass saved the states in front of step s.
  const T* saved_states(int64_t s) const {
    const int64_t saved = ceil_div(p.walks.steps, kTile) - 1, chain = b_ * p.walks.count + k_;
    return static_cast<const T*>(p.saved) + (chain * saved + s / kTile - 1) * p.states * p.channels + g_.first;
  }

  void load_states(int64_t s) {
    if (s == 0) return fill_zero(h.data, g_.blocks * p.states * V);
    const T* in = saved_states(s);
    for (int64_t n = 0; n < p.states; ++n)
      for (int i = 0; i < g_.blocks; ++i) {
        const int left = g_.width - i * V;
        const T* from = in + n * p.channels + i * V;
        store<T>(h.data + (i * p.states + n) * V, left >= V ? load<T>(from) : load_some<T>(from, left));
      }
  }

  void load_inputs(int64_t s) {
    load_tile(p.io, p.u.data, b_ * p.u.batch + k_ * p.u.walk, p.u.row, u_rows(p, rows), rows.count, g_, u.data);
    load_delta(p, shared, b_, k_, s, rows, g_, parameters, delta.data);
    load_tile(p.grad_type, p.grad.data, b_ * p.grad.batch + k_ * p.grad.walk, p.grad.row, rows.token, rows.count, g_,
              dy.data);
    if (p.z.data) load_tile(p.io, p.z.data, b_ * p.z.batch, p.z.row, rows.token, rows.count, g_, scratch.data);
    with_accuracy<T>(p.io, [&]<Accuracy A>(Deserved<A>) {
      for (int i = 0; i < g_.blocks; ++i)
        for (int j = 0; j < rows.count; ++j) {
          const int at = (i * kTile + j) * V;
          Vec<T> derivative = splat(T(1));
          if (p.delta_softplus) store<T>(delta.data + at, softplus<A>(load<T>(delta.data + at), derivative));
          store<T>(slope.data + at, derivative);
        }
      gate<A>();
    });
  }

  // dy becomes that of the sum over walks before its factors; `scratch` holds z and then what dy was.
  template <Accuracy A>
  void gate() {
    if (!p.z.data && p.scale == 1) return;
    const T scale = static_cast<T>(p.scale);
    for (int i = 0; i < g_.blocks; ++i)
      for (int j = 0; j < rows.count; ++j) {
        const int at = (i * kTile + j) * V;
        const Vec<T> grad = load<T>(dy.data + at);
        Vec<T> factor = splat(scale);
        if (p.z.data) {
          const Vec<T> z = load<T>(scratch.data + at);
          factor *= z * sigmoid<A>(z);
          store<T>(scratch.data + at, grad);
        }
        store<T>(dy.data + at, grad * factor);
      }
  }

  // Zeroes the lanes of `count` vectors of the last block that have no channel. Not by a product: they may be NaN.
  void clear_rest(T* vectors, int count) const {
    const int used = g_.width % V;
    for (int i = 0; used && i < count; ++i)
      for (int lane = used; lane < V; ++lane) vectors[i * V + lane] = T(0);
  }

  // Sums [step][N][lane] over lanes and puts them into rows of a partial result with `width` columns, from `column` on.
  template <int N>
  void deliver_sums(const T* vectors, T* partial, int64_t width, int64_t column, bool shared) {
    sum_lanes(vectors, rows.count * N, sums.data);
    const bool add = adds(shared, p.param_step);
    const int64_t* to = param_rows(p, rows);
    for (int i = 0; i < rows.count; ++i) {
      if (to[i] < 0) continue;
      T* out = partial + to[i] * width + column;
      if (add)
        for (int j = 0; j < N; ++j) out[j] += sums.data[i * N + j];
      else
        __builtin_memcpy(out, sums.data + i * N, N * sizeof(T));
    }
  }

  // s1 becomes du, s2 the gradient of delta before softplus, y the gradient of z up to its factor.
  void combine() {
    for (int i = 0; i < g_.blocks; ++i) {
      const Vec<T> skip = load<T>(parameters.skip.data + i * V);
      Vec<T> skip_sum = load<T>(dskip.data + i * V), bias_sum = load<T>(dbias.data + i * V);
      for (int j = 0; j < rows.count; ++j) {
        const int at = (i * kTile + j) * V;
        const Vec<T> out = load<T>(dy.data + at), x = load<T>(u.data + at), with_b = load<T>(s1.data + at);
        const Vec<T> dv = (x * with_b + load<T>(s2.data + at) * static_cast<T>(kLn2)) * load<T>(slope.data + at);
        const Vec<T> du = load<T>(delta.data + at) * with_b;
        store<T>(s1.data + at, parameters.has_skip ? du + skip * out : du);
        store<T>(s2.data + at, dv);
        skip_sum += out * x;
        bias_sum += dv;
        if (p.z.data) store<T>(y.data + at, load<T>(y.data + at) * load<T>(scratch.data + at));
      }
      store<T>(dskip.data + i * V, skip_sum);
      store<T>(dbias.data + i * V, bias_sum);
    }
  }

  void deliver(void* gradient, bool shared, bool by_step, int64_t row_count, const int64_t* to, const T* values) {
    T* base = at(gradient, shared, row_count, k_);
    if (adds(shared, by_step))
      add_tile(base, p.channels, to, rows.count, g_, values);
    else
      store_tile_as<T>(base, p.channels, to, rows.count, g_, values);
  }

  // Through the projection: gradients of the low-rank delta (a sum over channels) and of the weight (over steps). Both are
  // products of small matrices whose sums stay in registers: lanes are ranks in the first, channels in the second.
  void deliver_low_rank(const T* low) {
    if (partials.low) {
      int64_t r = 0;
      for (; r + V < p.rank; r += 2 * V) deliver_low<2>(r);
      if (r < p.rank) deliver_low<1>(r);
    }
    for (int i = 0; partials.weight && i < g_.blocks; ++i)
      for_pieces<8>(p.rank, [&]<class P>(int64_t r, P) {
        T* weight = dweight.data + (i * p.rank + r) * V;
        const T* slopes = s2.data + i * kTile * V;
        Vec<T> sum[P::size];
        for (int j = 0; j < P::size; ++j) sum[j] = load<T>(weight + j * V);
        for (int t = 0; t < rows.count; ++t) {
          const Vec<T> v = load<T>(slopes + t * V);
          const T* values = low + t * shared.stride() + r;
#pragma GCC unroll 8
          for (int j = 0; j < P::size; ++j) sum[j] += v * values[j];
        }
        for (int j = 0; j < P::size; ++j) store<T>(weight + j * V, sum[j]);
      });
  }

  // Ranks from r on, as many as `Vectors` have lanes.
  template <int Vectors>
  void deliver_low(int64_t r) {
    T* partial = part(partials.low, p.delta_shared, k_, p.rank) + r;
    const bool add = adds(p.delta_shared, p.param_step);
    const int64_t* to = param_rows(p, rows);
    for_pieces<8>(rows.count, [&]<class P>(int64_t t, P) {
      Vec<T> sum[P::size][Vectors] = {};
      const T* weight = by_channel.data + r;
      for (int c = 0; c < g_.width; ++c, weight += padded_rank()) {
        const T* slope = s2.data + (c / V * kTile + t) * V + c % V;
        Vec<T> w[Vectors];
        for (int v = 0; v < Vectors; ++v) w[v] = load<T>(weight + v * V);
#pragma GCC unroll 8
        for (int j = 0; j < P::size; ++j)
          for (int v = 0; v < Vectors; ++v) sum[j][v] += slope[j * V] * w[v];
      }
      for (int j = 0; j < P::size; ++j) {
        if (to[t + j] < 0) continue;
        for (int v = 0; v < Vectors; ++v) {
          T* out = partial + to[t + j] * p.rank + v * V;
          const int n = static_cast<int>(smaller(V, p.rank - r - v * V));
          if (n == V)
            store<T>(out, add ? load<T>(out) + sum[j][v] : sum[j][v]);
          else
            store_some<T>(out, add ? load_some<T>(out, n) + sum[j][v] : sum[j][v], n);
        }
      }
    });
  }

  void store_parameters() {
    const int64_t first = (b_ * p.walks.count + k_) * p.channels + g_.first;
    const auto store_transposed = [&](const Buffer<T>& values, T* partial, int64_t n) {
      for (int i = 0; partial && i < g_.blocks; ++i) {
        T* out = partial + (first + i * V) * n;
        transpose<false>(values.data + i * n * V, V, n, smaller(V, g_.width - i * V), out, n);
      }
    };
    store_transposed(da, partials.a, p.states);
    store_transposed(dweight, partials.weight, p.rank);
    for (int c = 0; c < g_.width; ++c) {
      if (partials.skip) partials.skip[first + c] = dskip.data[c];
      if (partials.bias) partials.bias[first + c] = dbias.data[c];
    }
  }

  // dz = (sum over walks of grad y_k) * scale * silu'(z)
  void finish_gate() {
    T* dz = at(p.dz, true, p.walks.tokens, 0);
    const T scale = static_cast<T>(p.scale);
    for (int64_t t = 0; t < p.walks.tokens; t += kTile) {
      const int count = static_cast<int>(smaller(kTile, p.walks.tokens - t));
      for (int i = 0; i < count; ++i) rows.token[i] = t + i;
      load_tile(p.io, p.z.data, b_ * p.z.batch, p.z.row, rows.token, count, g_, scratch.data);
      load_tile_as<T>(dz, p.channels, rows.token, count, g_, y.data);
      with_accuracy<T>(p.io, [&]<Accuracy A>(Deserved<A>) {
        for (int i = 0; i < g_.blocks; ++i)
          for (int j = 0; j < count; ++j) {
            const int at = (i * kTile + j) * V;
            const Vec<T> z = load<T>(scratch.data + at), s = sigmoid<A>(z);
            store<T>(y.data + at, load<T>(y.data + at) * scale * (s * (1 + z * (1 - s))));
          }
      });
      store_tile_as<T>(dz, p.channels, rows.token, count, g_, y.data);
    }
  }

  const ScanBackward& p;
  const SharedSteps<T>& shared;
  const Visits& visits;
  const Grouping& grouping;
  const Partials<T>& partials;
  WalkParameters<T> parameters;
  Buffer<T> u, delta, slope, dy, y, s1, s2, scratch, h, carry, da, dskip, dbias, dweight;
  Buffer<T> by_channel;  // [channel][rank], the projection's weight
  Buffer<T> decays, states, db, dc, sums;
  bool near[kMostBlocks<T>];  // of the tile's decays
  TileRows rows, next;
  Ahead ahead;
  int64_t b_ = 0, k_ = 0, group_ = 0;
  Group g_{};
};

template <class T>
static void scan_gradients(const ScanBackward& p, const Pool& all) {
  const Pool pool = for_work(all, 3 * elements(p));
  const Grouping grouping(p.batch, p.channels);
  const int64_t walks = p.walks.count, rows = p.param_step ? p.walks.steps : p.walks.tokens;

  // Where one part is all there is, it is the result.
  struct Part {
    int64_t count, size;
    void* out;
    Buffer<T> own;
    Part(void* out, int64_t count, int64_t size) : count(count), size(size), out(out), own(split() ? count * size : 0) {}
    bool split() const { return out && count != 1; }
    T* data() const { return split() ? own.data : static_cast<T*>(out); }
    void finish(const Pool& pool) const {
      if (split()) sum_parts(pool, own.data, count, size, static_cast<T*>(out));
    }
  };
  const auto per_row = [&](bool shared, int64_t n) { return p.batch * (shared ? 1 : walks) * rows * n; };
  const auto parts = [&](bool shared) { return shared ? p.batch * walks : p.batch; };
  const auto per_channel = [&](bool shared, int64_t n) { return (shared ? 1 : walks) * p.channels * n; };
  const Part b(p.db, grouping.count, per_row(p.b_shared, p.states));
  const Part c(p.dc, grouping.count, per_row(p.c_shared, p.states));
  const Part low(p.rank ? p.ddelta : nullptr, grouping.count, per_row(p.delta_shared, p.rank));
  const Part a(p.da, parts(p.a_shared), per_channel(p.a_shared, p.states));
  const Part skip(p.dskip, parts(p.skip_shared), per_channel(p.skip_shared, 1));
  const Part bias(p.dbias, parts(p.bias_shared), per_channel(p.bias_shared, 1));
  const Part weight(p.ddt_weight, parts(p.dt_weight_shared), per_channel(p.dt_weight_shared, p.rank));
  const Partials<T> partials{b.data(), c.data(), low.data(), a.data(), skip.data(), bias.data(), weight.data()};

  const SharedSteps<T> shared(p, pool, true);
  const Visits visits(p.walks, pool);
  for_units(pool, p.batch * grouping.count, [&](Counter& next) {
    BackwardWorker<T> worker(p, shared, visits, grouping, partials);
    for (int64_t unit; (unit = next()) >= 0;) worker.run(unit / grouping.count, unit % grouping.count);
  });
  const Part* everything[] = {&b, &c, &low, &a, &skip, &bias, &weight};
  for (const Part* part : everything) part->finish(pool);
}

}  // namespace mmvim::MMVIM_ISA
