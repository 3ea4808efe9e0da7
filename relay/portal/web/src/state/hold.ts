// Rows keep their order while somebody points at them or has chosen some: a click must not land on
// another row because a number changed.

/** The rows in the order that was seen: gone ones leave, new ones come last. Says whether the order would be another. */
export function holdOrder<T extends { id: string }>(seen: readonly string[], next: readonly T[]): { rows: readonly T[]; moved: boolean } {
  const place = new Map(seen.map((id, at) => [id, at]));
  const rows = [...next].sort((a, b) => (place.get(a.id) ?? Infinity) - (place.get(b.id) ?? Infinity) || 0);
  const moved = rows.some((row, at) => row.id !== next[at]?.id);
  return moved ? { rows, moved } : { rows: next, moved };
}
