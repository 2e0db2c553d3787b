// Products of warpgroups, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions" in the PTX
// manual.
#include <cstring>

#include "cuda_host/hopper_block.h"

namespace grapnel::cuda_host {
namespace {

using device::Swizzle;

std::vector<double> registers_of_a(const WarpGroup& group, bool tf32) {
  const unsigned depth = tf32 ? 8 : 16;
  std::vector<double> result(64 * depth);
  for (unsigned row = 0; row < 64; ++row)
    for (unsigned k = 0; k < depth; ++k) {
      const unsigned pair = tf32 ? k : k / 2;  // four a register's worth of k
      const auto& registers = group.registers[row / 16 * 32 + row % 8 * 4 + pair % 4];
      const std::uint32_t bits = registers[row / 8 % 2 + pair / 4 * 2];
      result[row * depth + k] =
          tf32 ? device::host::tf32(bits) : device::host::bf16(bits >> k % 2 * 16 & 0xffff);
    }
  return result;
}

}  // namespace

void Hopper::multiply(const Product& product, float* sums, SumsState& state, const Site& site) {
  ThreadState& me = thread();
  if (!state.fenced) fault("no fence_products of its sums since the thread touched them, or at all", site);
  if (product.add && !state.set) fault("adds to sums that were never set", site);
  ++me.open_products;
  me.last = site;
  state.set = true;
  state.group = me.products + 1;
  WarpGroup& group = my_group("a product", site);
  group.sums[thread_number() % kGroup] = sums;
  group.registers[thread_number() % kGroup] = product.registers;
  const WarpGroup::Call call{site, {product.columns, product.a, product.b, product.add, state.group}};
  together(
      group, call,
      [&] {
        return "product " + std::to_string(product.columns) + " columns wide, of " +
               std::to_string(product.a) + " and " + std::to_string(product.b) +
               (product.add ? ", added" : "") + ", group " + std::to_string(state.group);
      },
      [&] { carry_out(group, product, me.products + 1, site); });
}

void Hopper::wait_for_products(unsigned left) {
  ThreadState& me = thread();
  if (me.products <= left) return;
  me.known_products = std::max(me.known_products, me.products - left);
  const WarpGroup& group = groups_[thread_number() / kGroup];
  if (!group.released.empty())
    clock_of(thread_number())
        .learn(group.released[std::min<std::size_t>(me.known_products, group.released.size() - 1)]);
}

/// An operand: 64 or `lines` rows of A or columns of B, `depth` of k each ("Shared Memory Matrix Layout").
std::vector<double> Hopper::read_operand(std::uint64_t descriptor, bool transposed, unsigned lines, bool tf32,
                                         std::uint32_t member, const Clock& clock, const Site& site) const {
  const auto decode = [&](unsigned bit) {
    return static_cast<std::uintptr_t>(descriptor >> bit & 0x3fff) << 4;
  };
  const std::uintptr_t start = decode(0), leading = decode(16), stride = decode(32);
  const auto swizzle = static_cast<Swizzle>(descriptor >> 62);
  const unsigned span = device::span_of(swizzle), period = swizzle == Swizzle::none ? 16 : 8 * span;
  if (start % period >= span)
    fault("an operand that does not start within the first row of a swizzle's period, every " +
              std::to_string(period) + " bytes",
          site);
  const unsigned element = tf32 ? 4 : 2, per_piece = 16 / element, depth = 32 / element;
  std::vector<double> result(lines * depth);
  for (unsigned line = 0; line < (transposed ? lines / per_piece : lines); ++line)
    for (unsigned k = 0; k < (transposed ? depth : 2); ++k) {
      // Piece `line` of row k along mn, or piece k of row `line` along k.
      const unsigned row = transposed ? k : line;
      std::uintptr_t at = start + row % 8 * span;
      if (!transposed) {
        at += row / 8 * stride + k * (swizzle == Swizzle::none ? leading : 16);
      } else if (swizzle == Swizzle::none) {
        at += row / 8 * leading + line * stride;
      } else {
        at += row / 8 * stride + line % (span / 16) * 16 + line / (span / 16) * leading;
      }
      const auto* piece = static_cast<const std::byte*>(
          reach_piece(member, clock, swizzled(at, swizzle), Access::read, site));
      for (unsigned e = 0; e < per_piece; ++e) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, piece + e * element, element);
        const std::size_t to =
            transposed ? (line * per_piece + e) * depth + k : line * depth + k * per_piece + e;
        result[to] = tf32 ? device::host::tf32(bits) : device::host::bf16(bits);
      }
    }
  return result;
}

void Hopper::carry_out(WarpGroup& group, const Product& product, unsigned number, const Site& site) {
  if (group.member == 0)
    group.member = join_crew("a product of warpgroup " + std::to_string(&group - groups_.data()));
  // Any of its threads may be the one whose part of the instruction reads first: what not all of them know
  // to be there is not.
  const unsigned first = static_cast<unsigned>(&group - groups_.data()) * kGroup;
  Times least(threads_.size() + crew().others.size(), UINT32_MAX);
  Meeting all(least.size());
  for (unsigned t = first; t < first + kGroup; ++t) {
    Clock& clock = clock_of(t);
    for (unsigned m = 0; m < least.size(); ++m)
      least[m] = std::min(least[m], m == t                                   ? clock.now
                                    : clock.known && m < clock.known->size() ? (*clock.known)[m]
                                                                             : 0);
    all.bring(t, clock);
  }
  all.note(group.member, number);
  group.released.resize(number + 1, group.released.empty() ? nullptr : group.released.back());
  group.released[number] = all.whole();

  const Clock issue{std::make_shared<const Times>(std::move(least)), number};
  const unsigned depth = product.tf32 ? 8 : 16;
  const std::vector<double> a =
      product.a_in_registers
          ? registers_of_a(group, product.tf32)
          : read_operand(product.a, product.transposed_a, 64, product.tf32, group.member, issue, site);
  const std::vector<double> b =
      read_operand(product.b, product.transposed_b, product.columns, product.tf32, group.member, issue, site);
  // By rows of B's transpose, which are whole vectors; the order of k is that of the definition.
  std::vector<double> b_rows(b.size()), row(product.columns);
  for (unsigned column = 0; column < product.columns; ++column)
    for (unsigned k = 0; k < depth; ++k) b_rows[k * product.columns + column] = b[column * depth + k];
  for (unsigned r = 0; r < 64; ++r) {
    // Of row r, four neighbouring threads have two neighbouring columns of each eight.
    const auto sum_at = [&](unsigned column) -> float& {
      const unsigned t = r / 16 * 32 + r % 8 * 4 + column % 8 / 2;
      return group.sums[t][column / 8 * 4 + r / 8 % 2 * 2 + column % 2];
    };
    for (unsigned column = 0; column < product.columns; ++column)
      row[column] = product.add ? sum_at(column) : 0;
    for (unsigned k = 0; k < depth; ++k)
      for (unsigned column = 0; column < product.columns; ++column)
        row[column] += a[r * depth + k] * b_rows[k * product.columns + column];
    for (unsigned column = 0; column < product.columns; ++column)
      sum_at(column) = device::host::toward_zero(row[column]);
  }
}

void multiply_async(const Product& product, float* sums, SumsState& state, const Site& site) {
  hopper().multiply(product, sums, state, site);
}

void commit_products() {
  ThreadState& me = hopper().thread();
  me.open_products = 0;
  ++me.products;
}

void wait_for_products(unsigned left) {
  hopper().wait_for_products(left);
}

void fence_products(SumsState& state) {
  state.fenced = true;
}

void settle(SumsState& state) {
  state.settled = std::min(state.group, hopper().thread().known_products);
}

void touch(SumsState& state, const Site& site) {
  if (state.group > hopper().thread().known_products)
    fault("touches sums of products that it has not waited for", site);
  if (state.group > state.settled) fault("touches sums that it gave to no wait_for_products", site);
  state.set = true;
  state.fenced = false;
}

}  // namespace grapnel::cuda_host
