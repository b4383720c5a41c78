/** How a list opens a transcript in a tab of its own. The side panel's plugin lends it; without it nothing opens. */
export const opening: { open: ((id: string) => Promise<void>) | null } = {
  open: null
};
